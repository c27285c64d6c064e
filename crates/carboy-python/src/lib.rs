//! The extension module `carboy._carboy`: binds the pure crates to Python.
//!
//! This file only lists what is exported; each room has its folder.

use pyo3::prelude::*;

mod attach;
mod event_loop;
mod ffi;
mod names;
mod runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of carboy.
#[pymodule(name = "_carboy", gil_used = true)]
mod carboy_module {
    #[pymodule_export]
    use super::event_loop::{Handle, NativeEventLoop, TimerHandle};
}
