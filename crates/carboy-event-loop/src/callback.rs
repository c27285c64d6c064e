//! The seam between the loop and its owner.

/// Something that the loop can hold and hand back to its owner when it is due.
pub trait Callback: Send + Unpin + Sized + 'static {
    /// Says whether the callback was cancelled since it was added. Cancelled callbacks
    /// are dropped instead of run.
    fn is_cancelled(&self) -> bool;

    /// Another reference to the same callback: a descriptor's callback stays
    /// registered while it is queued.
    #[must_use]
    fn share(&self) -> Self;
}
