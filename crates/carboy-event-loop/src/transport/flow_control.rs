//! When a producer is told to pause, and when to go on.

/// asyncio's default for the most that is buffered before the producer is paused.
const DEFAULT_HIGH_BYTES: usize = 64 * 1024;

/// What the producer is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowSignal {
    /// More is buffered than the high limit allows.
    Pause,
    /// What is buffered has come down to the low limit.
    Resume,
}

/// The limits of a write buffer, with some distance between them so that the producer is
/// not paused and resumed all the time.
///
/// States: *flowing* until the buffer grows above the high limit, then *paused* until it
/// shrinks to the low limit.
#[derive(Debug)]
pub struct FlowControl {
    low_bytes: usize,
    high_bytes: usize,
    paused: bool,
}

impl Default for FlowControl {
    fn default() -> Self {
        Self {
            low_bytes: DEFAULT_HIGH_BYTES / 4,
            high_bytes: DEFAULT_HIGH_BYTES,
            paused: false,
        }
    }
}

impl FlowControl {
    /// The low and the high limit, in bytes.
    pub fn limits_bytes(&self) -> (usize, usize) {
        (self.low_bytes, self.high_bytes)
    }

    /// Whether the producer was told to pause.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sets the limits. As in asyncio, the high one is four times the low one if only that
    /// is given, and the low one a quarter of the high one.
    ///
    /// # Errors
    ///
    /// The limits that were asked for, low and high, if they are not 0 ≤ low ≤ high.
    pub fn set_limits(
        &mut self,
        high_bytes: Option<i64>,
        low_bytes: Option<i64>,
    ) -> Result<(), (i64, i64)> {
        let high = high_bytes.unwrap_or_else(|| match low_bytes {
            Some(low) => low.saturating_mul(4),
            None => i64::try_from(DEFAULT_HIGH_BYTES).unwrap_or(i64::MAX),
        });
        let low = low_bytes.unwrap_or_else(|| high.div_euclid(4));
        match (usize::try_from(low), usize::try_from(high)) {
            (Ok(low_bytes), Ok(high_bytes)) if low_bytes <= high_bytes => {
                self.low_bytes = low_bytes;
                self.high_bytes = high_bytes;
                Ok(())
            }
            _ => Err((low, high)),
        }
    }

    /// Says what the producer is to be told now that the buffer has grown to this size.
    #[must_use = "the producer is to be told"]
    pub fn after_growth(&mut self, buffered_bytes: usize) -> Option<FlowSignal> {
        if self.paused || buffered_bytes <= self.high_bytes {
            return None;
        }
        self.paused = true;
        Some(FlowSignal::Pause)
    }

    /// Says what the producer is to be told now that the buffer has shrunk to this size.
    #[must_use = "the producer is to be told"]
    pub fn after_shrinking(&mut self, buffered_bytes: usize) -> Option<FlowSignal> {
        if !self.paused || buffered_bytes > self.low_bytes {
            return None;
        }
        self.paused = false;
        Some(FlowSignal::Resume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_above_the_high_limit_and_resumes_at_the_low_one() {
        let mut flow = FlowControl::default();
        flow.set_limits(Some(100), Some(10)).unwrap();
        assert_eq!(flow.after_growth(100), None);
        assert_eq!(flow.after_growth(101), Some(FlowSignal::Pause));
        assert_eq!(flow.after_growth(200), None, "it was told already");
        assert_eq!(flow.after_shrinking(11), None);
        assert_eq!(flow.after_shrinking(10), Some(FlowSignal::Resume));
        assert_eq!(flow.after_shrinking(0), None);
    }

    #[test]
    fn derives_the_limit_that_was_not_given() {
        let mut flow = FlowControl::default();
        assert_eq!(flow.limits_bytes(), (16_384, 65_536));
        for (high, low, expected) in [
            (Some(100), None, (25, 100)),
            (None, Some(100), (100, 400)),
            (None, None, (16_384, 65_536)),
            (Some(0), None, (0, 0)),
        ] {
            flow.set_limits(high, low).unwrap();
            assert_eq!(flow.limits_bytes(), expected);
        }
    }

    #[test]
    fn refuses_impossible_limits_and_keeps_the_old_ones() {
        let mut flow = FlowControl::default();
        assert_eq!(flow.set_limits(Some(1), Some(2)), Err((2, 1)));
        assert_eq!(flow.set_limits(None, Some(-1)), Err((-1, -4)));
        assert_eq!(flow.limits_bytes(), (16_384, 65_536));
    }
}
