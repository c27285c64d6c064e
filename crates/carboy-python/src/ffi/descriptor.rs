//! Descriptors that Python names by number.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Lends a descriptor, given by its number, to `operation`.
///
/// # Errors
///
/// `InvalidInput` for a negative number; else what the operation says.
pub(crate) fn with_borrowed<T>(
    number: RawFd,
    operation: impl FnOnce(BorrowedFd<'_>) -> T,
) -> io::Result<T> {
    if number < 0 {
        let message = format!("{number} is not a valid descriptor");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: The number is not the reserved -1. That the descriptor is open can't be known
    // of a number from Python; the operations that are passed here only hand it to a system
    // call, which answers EBADF for a closed one.
    Ok(operation(unsafe { BorrowedFd::borrow_raw(number) }))
}
