//! Objects of native classes that are made and freed all the time: their memory is kept for
//! the next ones.
//!
//! PyO3 has such lists too, but the garbage collector does not know the objects from them.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, PyClassInitializer};

use super::attached_cell::AttachedCell;

/// A native class whose objects have a free list. It has the garbage collector's support,
/// can be referred to weakly, and has no subclass.
pub(crate) trait Recycled:
    PyClass<Frozen = True> + Sync + Into<PyClassInitializer<Self>>
{
    /// The list of the class.
    fn free_list() -> &'static FreeList;

    /// Lets go of what an object holds, in place of its destructor.
    fn release(self, py: Python<'_>);
}

/// As many objects are kept as a busy turn of a loop makes.
const CAPACITY: usize = 1024;

/// An object whose value was moved out, and which nobody else knows.
struct Memory(*mut ffi::PyObject);

// SAFETY: The pointer is only kept, under the guard of the list.
unsafe impl Send for Memory {}

/// The memory of objects that were freed.
pub(crate) struct FreeList {
    objects: AttachedCell<Vec<Memory>>,
    /// What frees an object without the list.
    destructor: OnceLock<ffi::destructor>,
    /// Where in an object its Rust value is; 0 as long as that is not known.
    value_offset_bytes: AtomicUsize,
}

impl FreeList {
    pub(crate) const fn new() -> Self {
        Self {
            objects: AttachedCell::new(Vec::new()),
            destructor: OnceLock::new(),
            value_offset_bytes: AtomicUsize::new(0),
        }
    }
}

/// Lets freed objects of the class go to its list. Once per process, when the module is made.
pub(crate) fn install<T: Recycled>(py: Python<'_>) {
    let class = T::type_object_raw(py);
    let list = T::free_list();
    list.objects
        .with(py, |objects| objects.reserve_exact(CAPACITY));
    // SAFETY: The class is live, has a destructor as each class of PyO3's, and no object yet.
    // The new one does what that does, or calls it.
    unsafe {
        if let Some(destructor) = (*class).tp_dealloc
            && list.destructor.set(destructor).is_ok()
        {
            (*class).tp_dealloc = Some(free::<T>);
        }
    }
}

/// Makes an object, as `Bound::new`, that the garbage collector knows.
pub(crate) fn new_object<T: Recycled>(py: Python<'_>, value: T) -> PyResult<Bound<'_, T>> {
    let object = new_untracked_object(py, value)?;
    track(&object);
    Ok(object)
}

/// Lets the garbage collector know an object.
pub(crate) fn track<T: Recycled>(object: &Bound<'_, T>) {
    // SAFETY: The object is live and whole, its class has the collector's support, and it is
    // not made known twice.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}

/// Lets the garbage collector know an object, if there is another reference to it.
pub(crate) fn track_shared<T: Recycled>(object: &Bound<'_, T>) {
    // SAFETY: The object is live.
    if unsafe { ffi::Py_REFCNT(object.as_ptr()) } > 1 {
        track(object);
    }
}

/// Makes an object that the garbage collector does not look at before it is tracked: for a
/// short life in a place from where it could not be collected anyway. Each look costs more
/// than the object.
pub(crate) fn new_untracked_object<T: Recycled>(
    py: Python<'_>,
    value: T,
) -> PyResult<Bound<'_, T>> {
    let list = T::free_list();
    let Some(Memory(object)) = list.objects.with(py, Vec::pop) else {
        let object = Bound::new(py, value)?;
        let offset = ptr::from_ref(object.get()).addr() - object.as_ptr().addr();
        list.value_offset_bytes.store(offset, Ordering::Relaxed);
        // SAFETY: The object is live; it was made known when its memory was allocated.
        unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
        return Ok(object);
    };
    let offset = list.value_offset_bytes.load(Ordering::Relaxed);
    // SAFETY: The memory is that of an object of this class that was freed: its value was
    // moved out, and its list of weak references is empty. Its header is made anew; to the
    // collector it is unknown.
    unsafe {
        ffi::PyObject_Init(object, T::type_object_raw(py));
        object.byte_add(offset).cast::<T>().write(value);
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

// SAFETY: CPython calls it as the class's `tp_dealloc`: on an attached thread, with an object
// to which there is no reference.
unsafe extern "C" fn free<T: Recycled>(object: *mut ffi::PyObject) {
    // SAFETY: The thread is attached, as it is whenever CPython frees an object.
    let py = unsafe { Python::assume_attached() };
    let list = T::free_list();
    let offset = list.value_offset_bytes.load(Ordering::Relaxed);
    let kept = list.objects.with(py, |objects| objects.len());
    if offset == 0 || kept >= CAPACITY {
        if let Some(destructor) = list.destructor.get() {
            // SAFETY: It is the destructor that the class had before.
            unsafe { destructor(object) };
        }
        return;
    }
    // SAFETY: The collector lets go of the object first. Its weak references end: the offset
    // is that of the list of them, which PyO3 has set for the class. Then the value, which is
    // at its offset, is moved out and never looked at again.
    let (class, value) = unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let class = ffi::Py_TYPE(object);
        let references_offset = (*class).tp_weaklistoffset;
        if references_offset > 0 {
            let references = object.byte_offset(references_offset);
            if !references.cast::<*mut ffi::PyObject>().read().is_null() {
                ffi::PyObject_ClearWeakRefs(object);
            }
        }
        (class, object.byte_add(offset).cast::<T>().read())
    };
    // It may run anything, which may free other objects.
    value.release(py);
    list.objects
        .with(py, |objects| objects.push(Memory(object)));
    // SAFETY: An object of a class that was made at run time has a reference to it, which
    // the next object takes anew.
    unsafe { ffi::Py_DECREF(class.cast()) };
}
