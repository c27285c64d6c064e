//! Callbacks that wait for a descriptor, level-triggered, on a private epoll.
//!
//! The private epoll is itself a descriptor, which the driver registers with tokio:
//! tokio is edge-triggered, asyncio's readers and writers are not.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::Callback;

/// At most this many descriptors are reported by one look; the rest come with the next.
const EVENTS_PER_WAIT: usize = 256;

/// What is waited for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The descriptor can be read, or is at its end.
    Read,
    /// The descriptor can be written.
    Write,
}

struct Registration<C> {
    reader: Option<C>,
    writer: Option<C>,
}

impl<C> Registration<C> {
    fn slot(&mut self, interest: Interest) -> &mut Option<C> {
        match interest {
            Interest::Read => &mut self.reader,
            Interest::Write => &mut self.writer,
        }
    }

    fn flags(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.reader.is_some());
        flags.set(EventFlags::OUT, self.writer.is_some());
        flags
    }
}

/// The descriptors that the loop watches, at most one callback each for reading and writing.
pub struct Poller<C> {
    epoll: Arc<OwnedFd>,
    registrations: HashMap<RawFd, Registration<C>>,
}

impl<C: Callback> Poller<C> {
    /// Makes an empty poller.
    ///
    /// # Errors
    ///
    /// The error of `epoll_create1`, usually that the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll: Arc::new(epoll),
            registrations: HashMap::new(),
        })
    }

    /// The descriptor that is readable whenever a watched one is ready.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.epoll)
    }

    /// Watches a descriptor, and returns the callback that this one replaces.
    ///
    /// # Errors
    ///
    /// The error of `epoll_ctl`: `EPERM` for a regular file, `EBADF` for a closed one.
    pub fn watch(
        &mut self,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
        callback: C,
    ) -> io::Result<Option<C>> {
        let number = descriptor.as_raw_fd();
        let known = self.registrations.contains_key(&number);
        let registration = self
            .registrations
            .entry(number)
            .or_insert_with(|| Registration {
                reader: None,
                writer: None,
            });
        let previous = registration.slot(interest).replace(callback);
        if let Err(error) = apply(&self.epoll, descriptor, registration.flags(), known) {
            // The caller learns of it, and nothing half-registered stays behind.
            let failed = std::mem::replace(registration.slot(interest), previous);
            drop(failed);
            if !known {
                self.registrations.remove(&number);
            }
            return Err(error);
        }
        Ok(previous)
    }

    /// Stops watching a descriptor, and returns the callback that was there.
    ///
    /// It is no error when the descriptor was closed before: the kernel has then
    /// forgotten it already.
    pub fn unwatch(&mut self, descriptor: BorrowedFd<'_>, interest: Interest) -> Option<C> {
        let number = descriptor.as_raw_fd();
        let registration = self.registrations.get_mut(&number)?;
        let removed = registration.slot(interest).take();
        let flags = registration.flags();
        if flags.is_empty() {
            self.registrations.remove(&number);
            // An error here says that the kernel no longer knows the descriptor.
            epoll::delete(&*self.epoll, descriptor).ok();
        } else if removed.is_some() {
            apply(&self.epoll, descriptor, flags, true).ok();
        }
        removed
    }

    /// Passes on the callback of each descriptor that is ready now, without waiting, and
    /// returns how many callbacks that were.
    ///
    /// A descriptor that was closed while a copy of it lives may be reported for ever; it
    /// has no callback and does not count.
    pub fn poll_ready(&mut self, mut ready: impl FnMut(C)) -> usize {
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS_PER_WAIT];
        let no_wait = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let Ok((events, _)) = epoll::wait(&*self.epoll, &mut events, Some(&no_wait)) else {
            // Interrupted by a signal: the level-triggered events are still there next time.
            return 0;
        };
        let mut passed_on = 0;
        let mut ready = |callback: &C| {
            passed_on += 1;
            ready(callback.share());
        };
        let broken = EventFlags::ERR | EventFlags::HUP;
        for event in events.iter() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a descriptor was stored in it"
            )]
            let number = event.data.u64() as RawFd;
            let flags = event.flags;
            let Some(registration) = self.registrations.get(&number) else {
                continue;
            };
            if flags.intersects(EventFlags::IN | broken) {
                registration.reader.iter().for_each(&mut ready);
            }
            if flags.intersects(EventFlags::OUT | broken) {
                registration.writer.iter().for_each(&mut ready);
            }
        }
        passed_on
    }

    /// Passes each registered callback to `visit`.
    pub fn for_each(&self, mut visit: impl FnMut(&C)) {
        for registration in self.registrations.values() {
            registration.reader.iter().for_each(&mut visit);
            registration.writer.iter().for_each(&mut visit);
        }
    }

    /// Forgets every descriptor and returns the callbacks.
    #[must_use = "drop the callbacks after the lock on the poller was given back"]
    pub fn take_all(&mut self) -> Vec<C> {
        self.registrations
            .drain()
            .flat_map(|(_, registration)| [registration.reader, registration.writer])
            .flatten()
            .collect()
    }
}

/// Tells the kernel what is wanted of a descriptor.
///
/// A descriptor's number may have been closed and used again without our being told, so
/// both 'exists already' and 'is not there' are answered with the other operation.
fn apply(
    epoll: &OwnedFd,
    descriptor: BorrowedFd<'_>,
    flags: EventFlags,
    known: bool,
) -> io::Result<()> {
    #[expect(
        clippy::cast_sign_loss,
        reason = "an open descriptor is never negative"
    )]
    let data = EventData::new_u64(descriptor.as_raw_fd() as u64);
    let epoll = epoll.as_fd();
    let result = if known {
        match epoll::modify(epoll, descriptor, data, flags) {
            Err(Errno::NOENT) => epoll::add(epoll, descriptor, data, flags),
            other => other,
        }
    } else {
        match epoll::add(epoll, descriptor, data, flags) {
            Err(Errno::EXIST) => epoll::modify(epoll, descriptor, data, flags),
            other => other,
        }
    };
    result.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Name(&'static str);

    impl Callback for Name {
        fn is_cancelled(&self) -> bool {
            false
        }

        fn share(&self) -> Self {
            Self(self.0)
        }
    }

    fn ready(poller: &mut Poller<Name>) -> Vec<&'static str> {
        let mut names = Vec::new();
        poller.poll_ready(|callback| names.push(callback.0));
        names
    }

    #[test]
    fn reports_a_level_until_it_is_consumed() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        poller
            .watch(near.as_fd(), Interest::Read, Name("read"))
            .unwrap();
        assert!(ready(&mut poller).is_empty());
        far.write_all(b"x").unwrap();
        assert_eq!(ready(&mut poller), ["read"]);
        assert_eq!(ready(&mut poller), ["read"]);
        near.read_exact(&mut [0]).unwrap();
        assert!(ready(&mut poller).is_empty());
    }

    #[test]
    fn watches_both_directions_and_lets_go_of_each() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        poller
            .watch(near.as_fd(), Interest::Read, Name("read"))
            .unwrap();
        poller
            .watch(near.as_fd(), Interest::Write, Name("write"))
            .unwrap();
        assert_eq!(ready(&mut poller), ["write"]);
        assert_eq!(
            poller.unwatch(near.as_fd(), Interest::Write),
            Some(Name("write"))
        );
        assert!(ready(&mut poller).is_empty());
        assert_eq!(
            poller.unwatch(near.as_fd(), Interest::Read),
            Some(Name("read"))
        );
        assert_eq!(poller.unwatch(near.as_fd(), Interest::Read), None);
    }

    #[test]
    fn refuses_a_regular_file_and_stays_empty() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let mut poller = Poller::new().unwrap();
        assert!(
            poller
                .watch(file.as_fd(), Interest::Read, Name("file"))
                .is_err()
        );
        assert!(poller.take_all().is_empty());
    }

    #[test]
    fn replaces_a_callback() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        poller
            .watch(near.as_fd(), Interest::Write, Name("old"))
            .unwrap();
        let old = poller
            .watch(near.as_fd(), Interest::Write, Name("new"))
            .unwrap();
        assert_eq!(old, Some(Name("old")));
        assert_eq!(ready(&mut poller), ["new"]);
    }
}
