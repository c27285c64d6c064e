//! When a producer is told to pause, in the words of `asyncio.sslproto`.

use carboy_event_loop::transport::FlowSignal;

/// Two limits with some distance between them.
///
/// As [`carboy_event_loop::transport::FlowControl`], except that what is as much as the high
/// limit is too much already: asyncio's TLS counts so, and its transports do not.
pub(super) struct Watermarks {
    default_high_bytes: i64,
    low_bytes: i64,
    high_bytes: i64,
    paused: bool,
}

impl Watermarks {
    pub(super) fn new(default_high_bytes: i64) -> Self {
        Self {
            default_high_bytes,
            low_bytes: default_high_bytes / 4,
            high_bytes: default_high_bytes,
            paused: false,
        }
    }

    /// The low and the high limit, in bytes.
    pub(super) fn limits_bytes(&self) -> (i64, i64) {
        (self.low_bytes, self.high_bytes)
    }

    /// Whether the producer was told to pause.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sets the limits. The high one is four times the low one if only that is given, and
    /// the low one a quarter of the high one.
    ///
    /// # Errors
    ///
    /// The limits that were asked for, low and high, if they are not 0 ≤ low ≤ high.
    pub(super) fn set_limits(
        &mut self,
        high_bytes: Option<i64>,
        low_bytes: Option<i64>,
    ) -> Result<(), (i64, i64)> {
        let high = high_bytes.unwrap_or_else(|| match low_bytes {
            Some(low) => low.saturating_mul(4),
            None => self.default_high_bytes,
        });
        let low = low_bytes.unwrap_or_else(|| high.div_euclid(4));
        if 0 <= low && low <= high {
            self.low_bytes = low;
            self.high_bytes = high;
            Ok(())
        } else {
            Err((low, high))
        }
    }

    /// Says what the producer is to be told now that this much is buffered.
    pub(super) fn update(&mut self, buffered_bytes: usize) -> Option<FlowSignal> {
        let buffered_bytes = i64::try_from(buffered_bytes).unwrap_or(i64::MAX);
        if buffered_bytes >= self.high_bytes && !self.paused {
            self.paused = true;
            Some(FlowSignal::Pause)
        } else if buffered_bytes <= self.low_bytes && self.paused {
            self.paused = false;
            Some(FlowSignal::Resume)
        } else {
            None
        }
    }
}
