//! The connections of each thread.
//!
//! A connection belongs to the runtime that it was opened on, and a runtime to a run of a loop.
//! So a client of Python's is only a name for settings; the pools are here, one per client and
//! thread, and end with the run. A client may thus be used anywhere, and never meets a
//! connection of a loop that is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use carboy_client::{Client, ClientSettings};

struct Home {
    /// Whether the client of Python's still exists.
    settings: Weak<ClientSettings>,
    client: Client,
}

thread_local! {
    static HOMES: RefCell<HashMap<usize, Home>> = RefCell::default();
}

/// The client of these settings on this thread, whose loop must be running.
pub(super) fn client_here(settings: &Arc<ClientSettings>) -> Client {
    let key = Arc::as_ptr(settings) as usize;
    let mut unused = Vec::new();
    let client = HOMES.with_borrow_mut(|homes| {
        if let Some(home) = homes.get(&key)
            && home.settings.strong_count() > 0
        {
            return home.client.clone();
        }
        // A new client is made rarely: the time to look which ones are gone.
        let gone: Vec<_> = homes
            .iter()
            .filter(|(_, home)| home.settings.strong_count() == 0)
            .map(|(key, _)| *key)
            .collect();
        unused.extend(gone.iter().filter_map(|key| homes.remove(key)));
        let client = Client::new(Arc::clone(settings));
        let home = Home {
            settings: Arc::downgrade(settings),
            client: client.clone(),
        };
        homes.insert(key, home);
        client
    });
    drop(unused);
    client
}

/// Closes the connections of a client on this thread.
pub(super) fn close_here(settings: &Arc<ClientSettings>) {
    let key = Arc::as_ptr(settings) as usize;
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
