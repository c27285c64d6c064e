//! From the name of a host to its addresses.
//!
//! The system's look-up is a blocking call that takes as long as it likes, and nobody can end it.
//! So it has threads of its own, no more than so many at a time, and each name is looked up by one
//! of them for all that wait for it then: a name whose servers don't answer holds one thread,
//! however many calls go there, and stops none that goes elsewhere. What finds no thread waits in
//! a queue, first come, first served, and leaves it when nobody waits for it any more.
//!
//! Calls to addresses ask nobody; `localhost`, which is no matter of the network (RFC 6761 section
//! 6.3), does not wait for a thread.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Error, ErrorKind};

/// How many names the system is asked for at a time, in the whole process.
const MOST_LOOK_UPS: usize = 100;

/// Says under which addresses a host can be reached; the ports mean nothing.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What became of a look-up, for all that wait for it; `None` while it goes on.
type Outcome = Option<Result<Arc<[SocketAddr]>, LookUpFailed>>;

/// Why a name has no address, for all that have asked for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
struct LookUpFailed(Arc<io::Error>);

/// Finds the addresses of hosts. Its copies are one and the same.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    look_up: Box<LookUp>,
    most_at_once: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is looked up now, or is to be.
    flights: HashMap<Arc<str>, watch::Receiver<Outcome>>,
    /// What waits for a thread.
    queue: VecDeque<Flight>,
    /// How many threads there are.
    threads: usize,
    /// Where that is so: a fork leaves the threads behind.
    process: u32,
}

/// A name that is looked up for who waits for the outcome.
struct Flight {
    host: Arc<str>,
    outcome: watch::Sender<Outcome>,
}

impl Flight {
    /// Whether somebody waits for it. The state has a receiver of its own.
    fn is_awaited(&self) -> bool {
        self.outcome.receiver_count() > 1
    }
}

impl Default for Resolver {
    /// Asks the system, as all others of the process that were made so.
    fn default() -> Self {
        static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| {
            let look_up = |host: &str| Ok((host, 0).to_socket_addrs()?.collect());
            Resolver::new(look_up, MOST_LOOK_UPS)
        });
        SYSTEM.clone()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Resolver");
        shown.field("most_at_once", &self.shared.most_at_once);
        shown.finish_non_exhaustive()
    }
}

impl Resolver {
    /// Asks a function, which may block, on so many threads at a time; the ports of its addresses
    /// mean nothing.
    pub fn new(
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        most_at_once: usize,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                look_up: Box::new(look_up),
                most_at_once,
                state: Mutex::default(),
            }),
        }
    }

    /// The addresses of a host, in the order of preference.
    ///
    /// # Errors
    ///
    /// `Resolve` when there is none.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let failed = |error: LookUpFailed| {
            let message = format!("the name {host} can't be resolved");
            Error::caused(ErrorKind::Resolve, message, error)
        };
        let mut outcome = self.shared.join(host).map_err(failed)?;
        let found = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let addresses = found
            // A thread tells its outcome before it ends; a fork leaves none to tell it.
            .unwrap_or_else(|| Err(io::Error::other("the look-up broke off").into()))
            .map_err(failed)?;
        if addresses.is_empty() {
            return Err(Error::new(
                ErrorKind::Resolve,
                format!("the name {host} has no address"),
            ));
        }
        let mut addresses = addresses.to_vec();
        for address in &mut addresses {
            address.set_port(port);
        }
        Ok(addresses)
    }
}

impl From<io::Error> for LookUpFailed {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Whether the system knows a name without asking anybody.
fn is_of_this_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if state.process != process {
            *state = State {
                process,
                ..State::default()
            };
        }
        state
    }

    /// Where the outcome of a look-up will be found: of the one that is under way, or of a new one.
    fn join(self: &Arc<Self>, host: &str) -> Result<watch::Receiver<Outcome>, LookUpFailed> {
        let mut state = self.state();
        if let Some(outcome) = state.flights.get(host) {
            return Ok(outcome.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let flight = Flight {
            host: host.into(),
            outcome: sender,
        };
        state
            .flights
            .insert(Arc::clone(&flight.host), receiver.clone());
        if state.threads >= self.most_at_once && !is_of_this_host(host) {
            state.forget_unawaited();
            state.queue.push_back(flight);
            return Ok(receiver);
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("carboy-resolver".to_owned());
        match thread.spawn(move || work(&shared, flight)) {
            Ok(_) => Ok(receiver),
            Err(error) => {
                let mut state = self.state();
                state.threads -= 1;
                state.flights.remove(host);
                Err(error.into())
            }
        }
    }

    /// What a thread does after this name. `None` ends it, and its place is given back.
    fn take_next(&self, host: &str) -> Option<Flight> {
        let mut state = self.state();
        // Who comes from now on asks anew.
        state.flights.remove(host);
        state.forget_unawaited();
        let next = if state.threads > self.most_at_once {
            None
        } else {
            state.queue.pop_front()
        };
        if next.is_none() {
            state.threads = state.threads.saturating_sub(1);
        }
        next
    }
}

impl State {
    /// Takes out of the queue what nobody waits for any more.
    fn forget_unawaited(&mut self) {
        let flights = &mut self.flights;
        self.queue.retain(|flight| {
            if !flight.is_awaited() {
                flights.remove(&flight.host);
            }
            flight.is_awaited()
        });
    }
}

/// What a thread does: looks a name up, and then what waits for a thread.
fn work(shared: &Shared, first: Flight) {
    let mut next = Some(first);
    while let Some(flight) = next {
        let look_up = || (shared.look_up)(&flight.host);
        // What panics is told and leaves no place taken.
        let found = catch_unwind(AssertUnwindSafe(look_up))
            .unwrap_or_else(|_| Err(io::Error::other("the look-up broke off")))
            .map(Arc::from)
            .map_err(LookUpFailed::from);
        next = shared.take_next(&flight.host);
        flight.outcome.send_replace(Some(found));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Condvar;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Names that begin with `silent` are looked up until the test lets them go.
    #[derive(Default)]
    struct Names {
        asked: Mutex<Vec<String>>,
        has_come: Condvar,
        is_open: Mutex<bool>,
        opened: Condvar,
    }

    impl Names {
        fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
            self.asked.lock().unwrap().push(host.to_owned());
            self.has_come.notify_all();
            if host.starts_with("silent") {
                let is_open = self.is_open.lock().unwrap();
                drop(self.opened.wait_while(is_open, |open| !*open).unwrap());
            }
            assert_ne!(host, "panics", "as the test wants it");
            if host == "unknown" {
                return Err(io::Error::other("nobody knows it"));
            }
            Ok(vec![([127, 0, 0, 1], 7).into()])
        }

        fn wait_until_asked(&self, names: usize) {
            let asked = self.asked.lock().unwrap();
            let wait = self.has_come.wait_while(asked, |asked| asked.len() < names);
            drop(wait.unwrap());
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }

        fn open(&self) {
            *self.is_open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    fn resolver(most_at_once: usize) -> (Resolver, Arc<Names>) {
        let names = Arc::new(Names::default());
        let shared = Arc::clone(&names);
        let resolver = Resolver::new(move |host| shared.look_up(host), most_at_once);
        (resolver, names)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let bound = timeout(Duration::from_secs(60), future);
            bound.await.expect("the test hangs")
        })
    }

    type Waiting = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, Error>>>>;

    /// Begins to look a name up, which takes a while.
    fn begin(resolver: &Resolver, host: &'static str) -> Waiting {
        let resolver = resolver.clone();
        let mut waiting: Waiting = Box::pin(async move { resolver.resolve(host, 80).await });
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "{host}");
        waiting
    }

    fn found() -> Vec<SocketAddr> {
        vec![([127, 0, 0, 1], 80).into()]
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_that_wait() {
        let (resolver, names) = resolver(10);
        let all: Vec<_> = (0..50).map(|_| begin(&resolver, "silent")).collect();
        names.wait_until_asked(1);
        let late = begin(&resolver, "silent");
        names.open();
        run(async {
            for waiting in all.into_iter().chain([late]) {
                assert_eq!(waiting.await.unwrap(), found());
            }
            assert_eq!(names.asked(), ["silent"]);
            // An outcome is not kept.
            assert_eq!(resolver.resolve("silent", 80).await.unwrap(), found());
            assert_eq!(names.asked().len(), 2);
        });
    }

    #[test]
    fn silent_names_stop_no_more_than_what_needs_their_threads() {
        let (resolver, names) = resolver(1);
        let silent = begin(&resolver, "silent");
        names.wait_until_asked(1);
        let queued = [begin(&resolver, "first"), begin(&resolver, "second")];
        run(async {
            for host in ["127.0.0.1", "::1", "localhost", "LOCALHOST."] {
                assert_eq!(resolver.resolve(host, 80).await.unwrap().len(), 1, "{host}");
            }
            names.open();
            for waiting in [silent].into_iter().chain(queued) {
                assert_eq!(waiting.await.unwrap(), found());
            }
        });
        let expected = ["silent", "localhost", "LOCALHOST.", "first", "second"];
        assert_eq!(names.asked(), expected);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_looked_up() {
        let (resolver, names) = resolver(1);
        let silent = begin(&resolver, "silent");
        names.wait_until_asked(1);
        for _ in 0..100 {
            drop(begin(&resolver, "gone"));
            drop(begin(&resolver, "gone too"));
        }
        let last = begin(&resolver, "last");
        {
            let state = resolver.shared.state();
            assert_eq!((state.queue.len(), state.flights.len()), (1, 2));
        }
        // Nor is it in the way when whoever holds the thread has gone.
        drop(silent);
        names.open();
        run(async { assert_eq!(last.await.unwrap(), found()) });
        assert_eq!(names.asked(), ["silent", "last"]);
    }

    #[test]
    fn failures_are_told_to_all_and_leave_nothing() {
        let (resolver, names) = resolver(1);
        let silent = begin(&resolver, "silent");
        names.wait_until_asked(1);
        let failing: Vec<_> = ["unknown", "unknown", "panics"]
            .into_iter()
            .map(|host| begin(&resolver, host))
            .collect();
        names.open();
        run(async {
            silent.await.unwrap();
            let expected = ["nobody knows it", "nobody knows it", "broke off"];
            for (waiting, expected) in failing.into_iter().zip(expected) {
                let error = waiting.await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Resolve);
                assert!(error.message().contains(expected), "{error}");
            }
            assert_eq!(resolver.resolve("fine", 80).await.unwrap(), found());
        });
        let state = resolver.shared.state();
        assert!(state.flights.is_empty() && state.queue.is_empty());
        assert_eq!(state.threads, 0);
    }

    #[test]
    fn names_without_an_address_are_told() {
        let resolving = async {
            Resolver::default()
                .resolve("does-not-exist.invalid", 80)
                .await
        };
        let error = run(resolving).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.message().contains("does-not-exist.invalid"));
    }
}
