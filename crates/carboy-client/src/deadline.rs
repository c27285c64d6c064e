//! The moment by which a call is to be over.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, ErrorKind};

/// When a call is to be over, and how long that was at its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadline {
    limit: Option<(Instant, Duration)>,
}

impl Deadline {
    pub(crate) fn after(start: Instant, total: Option<Duration>) -> Self {
        Self {
            limit: total.and_then(|total| Some((start.checked_add(total)?, total))),
        }
    }

    pub(crate) fn never() -> Self {
        Self::default()
    }

    /// This one, or after this time from now if that is earlier.
    pub(crate) fn at_latest(&self, time: Duration) -> Self {
        let other = Self::after(Instant::now(), Some(time));
        match (self.at(), other.at()) {
            (Some(own), Some(at)) if own <= at => *self,
            _ => other,
        }
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.limit.map(|(at, _)| at)
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.at().is_some_and(|at| at <= Instant::now())
    }

    pub(crate) fn error(&self) -> Error {
        let total = self.limit.map_or(0.0, |(_, total)| total.as_secs_f64());
        Error::new(
            ErrorKind::TotalTimeout,
            format!("the call took longer than {total} s in all"),
        )
    }

    /// Waits for something, but not longer than this.
    ///
    /// # Errors
    ///
    /// `TotalTimeout`, and what the future says.
    pub(crate) async fn limit<T>(
        &self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match self.at() {
            None => future.await,
            Some(at) => match tokio::time::timeout_at(at, future).await {
                Ok(result) => result,
                Err(_) => Err(self.error()),
            },
        }
    }
}
