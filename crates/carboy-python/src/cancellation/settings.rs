//! What an application has set about cancellation; read once, with its first request.

use std::time::Duration;

use carboy_server::HalfClosed;
use http::{HeaderMap, HeaderName};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::names;

/// When a request is given up because its client has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Policy {
    /// If its method is safe (RFC 9110 section 9.2.1). Of others only what was marked stops.
    #[default]
    Safe,
    /// Whatever its method is.
    Always,
    /// Never, and nothing of it.
    Never,
}

impl Policy {
    /// From the name that people write.
    pub(crate) fn from_name(name: &str) -> PyResult<Self> {
        match name {
            "safe" => Ok(Self::Safe),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            other => Err(PyValueError::new_err(format!(
                "the policy for clients that go is 'safe', 'always' or 'never', not {other:?}"
            ))),
        }
    }

    /// Whether a whole request is given up.
    pub(crate) fn ends_request(self, is_safe: bool) -> bool {
        match self {
            Self::Safe => is_safe,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What an application has set.
pub(crate) struct CancellationSettings {
    pub(crate) policy: Policy,
    /// Whether the application has chosen the policy. If not, it is for requests that have
    /// promises only: a view that knows nothing of carboy runs to its end.
    pub(crate) is_policy_chosen: bool,
    /// How long a view may go on in other awaits than promises.
    pub(crate) grace: Duration,
    /// How long a request may take.
    pub(crate) deadline: Option<Duration>,
    /// In which header clients and services are told how many milliseconds are left.
    pub(crate) deadline_header: Option<HeaderName>,
    pub(crate) half_closed: HalfClosed,
}

impl CancellationSettings {
    /// Reads the settings of an application.
    ///
    /// # Errors
    ///
    /// `ValueError` that names what is wrong.
    pub(crate) fn of(application: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = application.py();
        let (policy, is_policy_chosen, grace, deadline, header, answers_half_closed): (
            String,
            bool,
            f64,
            Option<f64>,
            Option<String>,
            bool,
        ) = names::cancellation_settings(py)?
            .call1((application,))?
            .extract()?;
        let seconds = |seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|error| PyValueError::new_err(error.to_string()))
        };
        let deadline_header = header
            .map(HeaderName::try_from)
            .transpose()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self {
            policy: Policy::from_name(&policy)?,
            is_policy_chosen,
            grace: seconds(grace)?,
            deadline: deadline.map(seconds).transpose()?,
            deadline_header,
            half_closed: if answers_half_closed {
                HalfClosed::Waits
            } else {
                HalfClosed::HasGone
            },
        })
    }

    /// How long a request with these headers may take.
    pub(super) fn time_for(&self, headers: &HeaderMap) -> Option<Duration> {
        let asked = self.deadline_header.as_ref().and_then(|name| {
            let text = headers.get(name)?.to_str().ok()?;
            // What is no number is nothing that was agreed upon.
            text.trim().parse().ok().map(Duration::from_millis)
        });
        [self.deadline, asked].into_iter().flatten().min()
    }
}

impl Default for CancellationSettings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            is_policy_chosen: false,
            grace: Duration::from_secs(3),
            deadline: None,
            deadline_header: None,
            half_closed: HalfClosed::default(),
        }
    }
}
