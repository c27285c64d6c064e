//! Content codings: gzip, deflate, br and zstd (RFC 9110 section 8.4), with a guard against
//! decompression bombs.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use bytes::{Bytes, BytesMut};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd::stream::{raw, zio};

use crate::{Error, ErrorKind};

/// What is asked for when the caller asks for nothing else.
pub(crate) const ACCEPTED: &str = "gzip, deflate, br, zstd";

/// Content is decoded in pieces of this size. Together with the next constant this bounds what
/// one piece may take in memory, whatever the coding makes possible.
const PIECE_BYTES: usize = 4 * 1024;

/// A piece that becomes larger than this is a bomb: a thousand times is the most that deflate
/// can do, and honest content has no such pieces in the other codings either.
const LARGEST_DECODED_PIECE: usize = 16 * 1024 * 1024;

/// More codings than this are no honest response (RFC 9110 allows a list).
const MOST_CODINGS: usize = 4;

/// Takes what a decoder puts out, up to a bound.
#[derive(Debug, Default)]
struct Output {
    decoded: BytesMut,
    has_overflowed: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.decoded.len() + bytes.len() > LARGEST_DECODED_PIECE {
            self.has_overflowed = true;
            return Err(io::Error::other("a decompression bomb"));
        }
        self.decoded.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type ZstdDecoder = zio::Writer<Output, raw::Decoder<'static>>;

/// The largest window that RFC 9659 allows in a content coding: 8 MB.
const ZSTD_WINDOW_LOG: u32 = 23;

fn zstd_decoder() -> io::Result<ZstdDecoder> {
    let mut decoder = raw::Decoder::new()?;
    decoder.set_parameter(raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(zio::Writer::new(Output::default(), decoder))
}

/// One coding that is undone.
enum Coding {
    Gzip(Box<MultiGzDecoder<Output>>),
    /// RFC 9110 means zlib by "deflate"; some servers send bare deflate. The first byte tells.
    UnknownDeflate,
    Zlib(Box<ZlibDecoder<Output>>),
    Deflate(Box<DeflateDecoder<Output>>),
    Brotli(Box<DecompressorWriter<Output>>),
    Zstd(Box<ZstdDecoder>),
}

impl Coding {
    fn new(name: &str) -> Option<io::Result<Self>> {
        let coding = match name {
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(Output::default()))),
            "deflate" => Self::UnknownDeflate,
            "br" => Self::Brotli(Box::new(DecompressorWriter::new(
                Output::default(),
                PIECE_BYTES,
            ))),
            "zstd" => match zstd_decoder() {
                Ok(decoder) => Self::Zstd(Box::new(decoder)),
                Err(error) => return Some(Err(error)),
            },
            _ => return None,
        };
        Some(Ok(coding))
    }

    fn output(&mut self) -> Option<&mut Output> {
        match self {
            Self::Gzip(decoder) => Some(decoder.get_mut()),
            Self::UnknownDeflate => None,
            Self::Zlib(decoder) => Some(decoder.get_mut()),
            Self::Deflate(decoder) => Some(decoder.get_mut()),
            Self::Brotli(decoder) => Some(decoder.get_mut()),
            Self::Zstd(decoder) => Some(decoder.writer_mut()),
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Self::UnknownDeflate = self {
            let Some(first) = piece.first() else {
                return Ok(());
            };
            // RFC 1950: the compression method is 8, in the low bits.
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(Output::default())))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(Output::default())))
            };
        }
        let write = |decoder: &mut dyn Write| {
            decoder.write_all(piece)?;
            decoder.flush()
        };
        match self {
            Self::Gzip(decoder) => write(decoder),
            Self::UnknownDeflate => Ok(()),
            Self::Zlib(decoder) => write(decoder),
            Self::Deflate(decoder) => write(decoder),
            Self::Brotli(decoder) => write(decoder),
            Self::Zstd(decoder) => write(decoder),
        }
    }

    /// The content has ended; says whether the coding has, too.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::UnknownDeflate => Ok(()),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Brotli(decoder) => decoder.close(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// Undoes the codings of a response's content, piece by piece.
pub(crate) struct Decoder {
    /// In the order in which they are undone.
    codings: Vec<Coding>,
    has_content: bool,
}

impl Decoder {
    /// The decoder that a response's head asks for; `None` when its content is as it is, or in a
    /// coding that is not known here, which the caller then gets.
    ///
    /// # Errors
    ///
    /// `Decoding` when there are too many codings.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            for name in value.split(',').map(str::trim) {
                if name.is_empty() || name == "identity" {
                    continue;
                }
                match Coding::new(name) {
                    Some(coding) => codings.push(coding.map_err(|error| broken(name, error))?),
                    None => return Ok(None),
                }
            }
        }
        if codings.len() > MOST_CODINGS {
            return Err(Error::new(
                ErrorKind::Decoding,
                "the response has more content codings than any honest one",
            ));
        }
        codings.reverse();
        Ok((!codings.is_empty()).then_some(Self {
            codings,
            has_content: false,
        }))
    }

    /// Decodes what has come.
    ///
    /// # Errors
    ///
    /// `Decoding` when the coding is broken, `BodyTooLarge` for a bomb.
    pub(crate) fn decode(&mut self, content: &[u8]) -> Result<Bytes, Error> {
        self.has_content |= !content.is_empty();
        let mut decoded = BytesMut::new();
        for piece in content.chunks(PIECE_BYTES) {
            let mut current = Bytes::copy_from_slice(piece);
            for coding in &mut self.codings {
                current = step(coding, &current)?;
            }
            if decoded.is_empty() {
                decoded = BytesMut::from(current);
            } else {
                decoded.extend_from_slice(&current);
            }
            if decoded.len() > LARGEST_DECODED_PIECE * 4 {
                return Err(bomb());
            }
        }
        Ok(decoded.freeze())
    }

    /// The content has ended. Gives what was held back.
    ///
    /// # Errors
    ///
    /// `Decoding` when the coding breaks off.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Error> {
        if !self.has_content {
            // An answer to HEAD, or empty content that is labelled nevertheless.
            return Ok(Bytes::new());
        }
        let mut rest = Bytes::new();
        for coding in &mut self.codings {
            let decoded = if rest.is_empty() {
                Bytes::new()
            } else {
                step(coding, &rest)?
            };
            coding.finish().map_err(|error| broken("content", error))?;
            let held_back = coding
                .output()
                .map(|output| std::mem::take(&mut output.decoded))
                .unwrap_or_default();
            let mut all = BytesMut::from(decoded);
            all.extend_from_slice(&held_back);
            rest = all.freeze();
        }
        Ok(rest)
    }
}

fn step(coding: &mut Coding, piece: &[u8]) -> Result<Bytes, Error> {
    let written = coding.write(piece);
    let Some(output) = coding.output() else {
        return Ok(Bytes::new());
    };
    if output.has_overflowed {
        return Err(bomb());
    }
    written.map_err(|error| broken("content", error))?;
    Ok(std::mem::take(&mut output.decoded).freeze())
}

fn bomb() -> Error {
    Error::new(
        ErrorKind::BodyTooLarge,
        "the response is a decompression bomb: a few kilobytes of it become many megabytes",
    )
}

fn broken(what: &str, error: io::Error) -> Error {
    let message = format!("the response's {what} can't be decoded");
    Error::caused(ErrorKind::Decoding, message, error)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn decoder(codings: &'static str) -> Decoder {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(codings));
        Decoder::of(&headers).unwrap().unwrap()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn in_pieces(decoder: &mut Decoder, content: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        let mut decoded = Vec::new();
        for piece in content.chunks(size) {
            decoded.extend_from_slice(&decoder.decode(piece)?);
        }
        decoded.extend_from_slice(&decoder.finish()?);
        Ok(decoded)
    }

    /// `carboy ` three thousand times, made by Google's encoder.
    #[rustfmt::skip]
    const BROTLI: &[u8] = &[
        0x1b, 0x07, 0x52, 0x00, 0xa4, 0x40, 0xf2, 0x4a, 0x98, 0xcb, 0x2a, 0x51, 0x51,
        0x10, 0xb8, 0x9b, 0x04, 0x10,
    ];

    fn encoded() -> Vec<(&'static str, Vec<u8>)> {
        let content = b"carboy ".repeat(3000);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&content).unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(&content).unwrap();
        vec![
            ("gzip", gzip(&content)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", bare.finish().unwrap()),
            ("br", BROTLI.to_vec()),
            ("zstd", zstd::encode_all(&content[..], 3).unwrap()),
            (
                "gzip, zstd",
                zstd::encode_all(&gzip(&content)[..], 3).unwrap(),
            ),
        ]
    }

    #[test]
    fn splits_never_matter() {
        for (name, content) in encoded() {
            for size in [1, 7, 1000, 100_000] {
                let decoded = in_pieces(&mut decoder(name), &content, size).unwrap();
                assert_eq!(decoded, b"carboy ".repeat(3000), "{name} by {size}");
            }
        }
    }

    #[test]
    fn what_breaks_off_is_never_whole() {
        for (name, content) in encoded() {
            let broken_off = &content[..content.len() - 3];
            let error = in_pieces(&mut decoder(name), broken_off, 100).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decoding, "{name}");
        }
    }

    #[test]
    fn bombs_are_told_before_they_go_off() {
        let zeros = vec![0; 64 * 1024 * 1024];
        for (name, content) in [
            ("zstd", zstd::encode_all(&zeros[..], 3).unwrap()),
            ("gzip, gzip", gzip(&gzip(&zeros))),
        ] {
            let error = in_pieces(&mut decoder(name), &content, 65_536).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BodyTooLarge, "{name}");
        }
    }

    #[test]
    fn unknown_codings_are_left_to_the_caller() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip, x-own"));
        assert!(Decoder::of(&headers).unwrap().is_none());
    }

    #[test]
    fn no_content_needs_no_coding() {
        assert!(decoder("gzip").finish().unwrap().is_empty());
    }
}
