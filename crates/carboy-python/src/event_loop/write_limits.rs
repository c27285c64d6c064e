//! The arguments of `set_write_buffer_limits`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Limits in bytes. One that does not fit 64 bits is as good as the greatest that does.
pub(crate) fn extract(
    high: Option<&Bound<'_, PyAny>>,
    low: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Option<i64>, Option<i64>)> {
    let limit = |value: Option<&Bound<'_, PyAny>>| match value {
        None => Ok(None),
        Some(value) => match value.extract::<i64>() {
            Ok(limit) => Ok(Some(limit)),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(value.py()) => {
                Ok(Some(if value.gt(0)? { i64::MAX } else { i64::MIN }))
            }
            // asyncio takes a float, too.
            Err(error) => match value.extract::<f64>() {
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                Ok(limit) => Ok(Some(limit as i64)),
                Err(_) => Err(error),
            },
        },
    };
    Ok((limit(high)?, limit(low)?))
}

/// The error for limits that contradict each other.
pub(crate) fn refused((low, high): (i64, i64)) -> PyErr {
    PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0"))
}
