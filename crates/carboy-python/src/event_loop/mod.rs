//! asyncio's event loop on `carboy-event-loop`: the native half of `carboy.EventLoop`.

mod handle;
mod host;
mod native_loop;
mod task;

pub(crate) use handle::{Handle, QueuedHandle, TimerHandle};
pub(crate) use native_loop::{Deferred, NativeEventLoop};
pub(crate) use task::start_task;
