//! The content of a response that was read to its end.

use std::iter;

use bytes::{Bytes, BytesMut};

/// A piece of this size or more is kept as it came. It may hold a few times as much of the memory
/// that its connection reads into.
const KEPT_BYTES: usize = 16 * 1024;

/// Smaller pieces are put together to pieces of about this size.
const COMBINED_BYTES: usize = 64 * 1024;

/// All of a response's content: in pieces, so that large content is copied only once, by whoever
/// wants it as one.
#[derive(Clone, Debug, Default)]
pub struct Content {
    first: Bytes,
    others: Vec<Bytes>,
}

impl Content {
    /// The pieces, one behind the other.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> + Clone {
        iter::once(&self.first).chain(&self.others)
    }

    /// The content, if it is one piece.
    pub fn as_piece(&self) -> Option<&Bytes> {
        self.others.is_empty().then_some(&self.first)
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }

    /// The content as one, copied if it is several pieces.
    pub fn into_bytes(self) -> Bytes {
        if self.others.is_empty() {
            return self.first;
        }
        let mut whole = BytesMut::with_capacity(self.size());
        for piece in self.pieces() {
            whole.extend_from_slice(piece);
        }
        whole.freeze()
    }
}

impl Extend<Bytes> for ContentCollector {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }
}

/// Content as it comes.
///
/// Of a small piece that was kept, the whole memory would be kept that it was read into: a server
/// that sends byte by byte could fill it all.
#[derive(Debug, Default)]
pub struct ContentCollector {
    content: Content,
    /// Small pieces, put together.
    combined: BytesMut,
}

impl ContentCollector {
    /// Puts a piece behind the others.
    pub fn push(&mut self, piece: Bytes) {
        if self.content.first.is_empty() {
            self.content.first = piece;
            return;
        }
        let is_kept = piece.len() >= KEPT_BYTES;
        if is_kept || self.combined.len() + piece.len() > COMBINED_BYTES {
            self.keep_combined();
        }
        if is_kept {
            self.content.others.push(piece);
        } else {
            self.combined.extend_from_slice(&piece);
        }
    }

    fn keep_combined(&mut self) {
        if !self.combined.is_empty() {
            let combined = std::mem::take(&mut self.combined);
            self.content.others.push(combined.freeze());
        }
    }

    /// What has come.
    pub fn finish(mut self) -> Content {
        self.keep_combined();
        self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(sizes: &[usize]) -> (Content, Vec<u8>) {
        let mut collector = ContentCollector::default();
        let mut expected = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let piece = vec![u8::try_from(index % 251).unwrap_or_default(); *size];
            expected.extend_from_slice(&piece);
            collector.push(piece.into());
        }
        (collector.finish(), expected)
    }

    #[test]
    fn is_what_has_come() {
        for sizes in [
            &[][..],
            &[5],
            &[1, 2, 3],
            &[KEPT_BYTES, KEPT_BYTES - 1, 1, KEPT_BYTES],
            &[COMBINED_BYTES * 3, 1, COMBINED_BYTES * 3, 1],
            &vec![1; 100_000],
        ] {
            let (content, expected) = collected(sizes);
            assert_eq!(content.size(), expected.len());
            assert_eq!(content.into_bytes(), expected);
        }
    }

    #[test]
    fn is_not_copied_if_it_comes_as_one_piece() {
        let piece = Bytes::from(vec![7; 10]);
        let address = piece.as_ptr();
        let mut collector = ContentCollector::default();
        collector.push(piece);
        let content = collector.finish();
        assert_eq!(
            content.as_piece().map(|piece| piece.as_ptr()),
            Some(address)
        );
        assert_eq!(content.into_bytes().as_ptr(), address);
    }

    #[test]
    fn keeps_large_pieces_as_they_are() {
        let pieces = vec![Bytes::from(vec![7; KEPT_BYTES]); 3];
        let mut collector = ContentCollector::default();
        pieces
            .iter()
            .cloned()
            .for_each(|piece| collector.push(piece));
        let content = collector.finish();
        assert!(content.as_piece().is_none());
        assert!(
            content
                .pieces()
                .map(|it| it.as_ptr())
                .eq(pieces.iter().map(|it| it.as_ptr()))
        );
    }

    #[test]
    fn puts_small_pieces_together() {
        let (content, _) = collected(&[1000; 1000]);
        let combined = content.pieces().skip(1).map(Bytes::len);
        assert!(combined.clone().all(|size| size <= COMBINED_BYTES));
        assert_eq!(
            combined.count(),
            999_000_usize.div_ceil(COMBINED_BYTES / 1000 * 1000)
        );
    }
}
