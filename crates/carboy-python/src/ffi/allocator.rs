//! What the C library does with memory that Python's objects have freed.

use std::sync::Once;

use pyo3::ffi;
use pyo3::prelude::*;

/// glibc keeps freed blocks of up to this size for the next ones, and twice as much at the end
/// of its heap.
const KEPT_BLOCK_BYTES: usize = 2 * 1024 * 1024;

/// Lets the C library keep the memory of what a busy connection reads and writes.
///
/// In a fresh process glibc gives back to the kernel each block of 128 KiB or more and each
/// end of its heap of that size. A program that reads 100 KB at a time then has all of these
/// pages made anew, and zeroed, for each read. glibc learns better from the first block that is
/// larger than it thought large blocks are, once that is freed (mallopt(3), `M_MMAP_THRESHOLD`);
/// this is such a block. Where the environment has set these limits, they stay; other
/// allocators take it for any block.
pub(crate) fn keep_freed_memory(_attached: Python<'_>) {
    static TAUGHT: Once = Once::new();
    TAUGHT.call_once(|| {
        // The first may come from the end of the heap, which is given back with it.
        for _ in 0..2 {
            // SAFETY: The thread is attached. The block is freed once and not used; freeing
            // null, which stands for a lack of memory, does nothing.
            unsafe { ffi::PyMem_RawFree(ffi::PyMem_RawMalloc(KEPT_BLOCK_BYTES)) };
        }
    });
}
