//! The connections of each thread.
//!
//! A connection belongs to the runtime that it was opened on, and a runtime to a run of a loop.
//! So a client of Python's is only a name for settings; the pools are here, one per client and
//! thread, and end with the run. A client may thus be used anywhere, and never meets a
//! connection of a loop that is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use carboy_client::{Client, ClientSettings};
use pyo3::prelude::*;

use super::upload::begin;
use crate::event_loop::NativeEventLoop;
use crate::names;
use crate::promise::native_loop;

/// What the pools of one client of Python's have in common.
pub(super) struct Household {
    pub(super) settings: Arc<ClientSettings>,
    /// The loops that it has pools on, as weak references.
    event_loops: Mutex<Vec<Py<PyAny>>>,
}

struct Home {
    /// Whether the client of Python's still exists.
    household: Weak<Household>,
    client: Client,
}

impl Household {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            event_loops: Mutex::default(),
        }
    }

    fn add_loop(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = native_loop(py)?;
        let reference = names::weak_reference(py)?.call1((&event_loop,))?;
        let known = std::mem::take(&mut *self.lock());
        let mut kept = vec![reference.unbind()];
        for reference in known {
            let other = reference.call0(py)?;
            let is_other = !other.is_none(py) && !other.bind(py).is(&event_loop);
            if is_other {
                kept.push(reference);
            }
        }
        self.lock().extend(kept);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Py<PyAny>>> {
        self.event_loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the idle connections on all loops that turn.
    pub(super) fn close(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let references = std::mem::take(&mut *self.lock());
        for reference in references {
            let event_loop = reference.call0(py)?.into_bound(py);
            let Ok(event_loop) = event_loop.cast_into::<NativeEventLoop>() else {
                continue;
            };
            // The connections of one that has stopped are gone.
            if event_loop.get().is_turning() {
                let household = Arc::clone(self);
                begin(&event_loop, async move { close_here(&household) })?;
            }
        }
        Ok(())
    }
}

thread_local! {
    static HOMES: RefCell<HashMap<usize, Home>> = RefCell::default();
}

/// The client of this household on this thread, whose loop must be running.
pub(super) fn client_here(household: &Arc<Household>) -> Client {
    let key = Arc::as_ptr(household) as usize;
    known_client(key).unwrap_or_else(|| {
        Python::attach(|py| {
            if let Err(error) = household.add_loop(py) {
                error.write_unraisable(py, None);
            }
        });
        new_client(key, household)
    })
}

/// The same on a thread that never holds the GIL, and where no loop runs.
pub(super) fn client_without_python(household: &Arc<Household>) -> Client {
    let key = Arc::as_ptr(household) as usize;
    known_client(key).unwrap_or_else(|| new_client(key, household))
}

fn known_client(key: usize) -> Option<Client> {
    HOMES.with_borrow(|homes| {
        let home = homes.get(&key)?;
        (home.household.strong_count() > 0).then(|| home.client.clone())
    })
}

fn new_client(key: usize, household: &Arc<Household>) -> Client {
    let mut unused = Vec::new();
    let client = HOMES.with_borrow_mut(|homes| {
        // A new client is made rarely: the time to look which ones are gone.
        let gone: Vec<_> = homes
            .iter()
            .filter(|(_, home)| home.household.strong_count() == 0)
            .map(|(key, _)| *key)
            .collect();
        unused.extend(gone.iter().filter_map(|key| homes.remove(key)));
        let client = Client::new(Arc::clone(&household.settings));
        let home = Home {
            household: Arc::downgrade(household),
            client: client.clone(),
        };
        homes.insert(key, home);
        client
    });
    drop(unused);
    client
}

/// Closes the connections of a client on this thread.
pub(super) fn close_here(household: &Arc<Household>) {
    let key = Arc::as_ptr(household) as usize;
    let home = HOMES.with_borrow_mut(|homes| homes.remove(&key));
    if let Some(home) = home {
        home.client.close();
    }
}

/// Lets go of all connections of this thread: the run of its loop ends.
pub(crate) fn forget_connections() {
    let homes = HOMES.take();
    drop(homes);
}
