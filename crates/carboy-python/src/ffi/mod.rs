//! The only unsafe code of carboy: calls to CPython that PyO3 has no safe form of.
//!
//! Each function here is safe to call and keeps raw pointers to itself.
#![expect(unsafe_code, reason = "this folder is the one place for it")]

pub(crate) mod allocator;
pub(crate) mod attached_cell;
pub(crate) mod buffer;
pub(crate) mod context;
pub(crate) mod descriptor;
pub(crate) mod dict_version;
pub(crate) mod fast_method;
pub(crate) mod frame;
pub(crate) mod free_list;
pub(crate) mod full_object;
pub(crate) mod instance;
pub(crate) mod interpreter;
pub(crate) mod pending_error;
pub(crate) mod thread_state;
pub(crate) mod type_version;
