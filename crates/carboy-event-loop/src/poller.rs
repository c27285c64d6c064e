//! Callbacks that wait for a descriptor, level-triggered, on a private epoll.
//!
//! The driver waits for it directly while the loop has its thread for itself. Beside other
//! tasks of the thread the private epoll is itself a descriptor, which the driver registers
//! with tokio: tokio is edge-triggered, asyncio's readers and writers are not.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

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

/// What an event carries that is no descriptor's: another thread has added something.
const WAKEUP: u64 = u64::MAX;

/// Room for the events of one look.
pub struct Events {
    buffer: Box<[MaybeUninit<Event>; EVENTS_PER_WAIT]>,
}

impl Events {
    /// Waits until a descriptor of `poller` is ready or `timeout` is over; `None` is for
    /// ever. Returns the events, which are none if a signal came.
    ///
    /// No lock is needed for the wait: descriptors may be added and removed meanwhile.
    pub fn wait(&mut self, poller: &OwnedFd, timeout: Option<Duration>) -> &[Event] {
        // A timeout beyond the range of the kernel's type is the same as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(poller, &mut self.buffer[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            // Interrupted: the level-triggered events are still there next time.
            Err(_) => &[],
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            buffer: Box::new([MaybeUninit::uninit(); EVENTS_PER_WAIT]),
        }
    }
}

/// A callback that can't wait for its descriptor.
///
/// It is given back, because dropping it may run the owner's code, which must not happen
/// while the owner holds a lock on the poller.
#[derive(Debug)]
pub struct Refused<C> {
    /// The error of `epoll_ctl`.
    pub error: io::Error,
    /// The callback.
    pub callback: Option<C>,
}

struct Registration<C> {
    reader: Option<C>,
    writer: Option<C>,
}

impl<C> Default for Registration<C> {
    fn default() -> Self {
        Self {
            reader: None,
            writer: None,
        }
    }
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
    /// None once it was closed.
    epoll: Option<Arc<OwnedFd>>,
    /// By the descriptor's number: the kernel gives out the lowest that is free.
    registrations: Vec<Registration<C>>,
}

fn index(descriptor: RawFd) -> usize {
    usize::try_from(descriptor).unwrap_or(usize::MAX)
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
            epoll: Some(Arc::new(epoll)),
            registrations: Vec::new(),
        })
    }

    /// The descriptor that is readable whenever a watched one is ready; none once the poller
    /// was closed.
    pub fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        self.epoll.clone()
    }

    fn epoll(&self) -> io::Result<&OwnedFd> {
        let epoll = self.epoll.as_deref();
        epoll.ok_or_else(|| io::Error::from(Errno::BADF))
    }

    /// Closes the poller's own descriptor: nothing can be watched any more.
    pub fn close(&mut self) {
        self.epoll = None;
    }

    /// Watches a descriptor, and returns the callback that this one replaces.
    ///
    /// # Errors
    ///
    /// The error of `epoll_ctl`: `EPERM` for a regular file, `EBADF` for a closed one or once
    /// the poller was closed.
    pub fn watch(
        &mut self,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
        callback: C,
    ) -> Result<Option<C>, Refused<C>> {
        let index = index(descriptor.as_raw_fd());
        if index >= self.registrations.len() {
            self.registrations
                .resize_with(index + 1, Registration::default);
        }
        let registration = &mut self.registrations[index];
        let known = !registration.flags().is_empty();
        let previous = registration.slot(interest).replace(callback);
        let flags = registration.flags();
        let applied = self
            .epoll()
            .and_then(|epoll| apply(epoll, descriptor, flags, known));
        if let Err(error) = applied {
            let registration = &mut self.registrations[index];
            // The caller learns of it, and nothing half-registered stays behind.
            let callback = std::mem::replace(registration.slot(interest), previous);
            return Err(Refused { error, callback });
        }
        Ok(previous)
    }

    /// Stops watching a descriptor, and returns the callback that was there.
    ///
    /// It is no error when the descriptor was closed before: the kernel has then
    /// forgotten it already.
    pub fn unwatch(&mut self, descriptor: BorrowedFd<'_>, interest: Interest) -> Option<C> {
        let registration = self.registrations.get_mut(index(descriptor.as_raw_fd()))?;
        let removed = registration.slot(interest).take()?;
        let flags = registration.flags();
        if let Ok(epoll) = self.epoll() {
            // An error here says that the kernel no longer knows the descriptor.
            if flags.is_empty() {
                epoll::delete(epoll, descriptor).ok();
            } else {
                apply(epoll, descriptor, flags, true).ok();
            }
        }
        Some(removed)
    }

    /// Whether there is a callback for this.
    pub fn is_watched(&self, descriptor: RawFd, interest: Interest) -> bool {
        self.registrations
            .get(index(descriptor))
            .is_some_and(|registration| match interest {
                Interest::Read => registration.reader.is_some(),
                Interest::Write => registration.writer.is_some(),
            })
    }

    /// Lets another thread end a wait, by writing to an eventfd.
    ///
    /// # Errors
    ///
    /// The error of `epoll_ctl`.
    pub fn watch_wakeup(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        // Edge-triggered, so that nobody needs to read it: each write is an event.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(self.epoll()?, eventfd, EventData::new_u64(WAKEUP), flags)?;
        Ok(())
    }

    /// Passes on the callback of each descriptor that is ready now, without waiting, and
    /// returns how many callbacks that were.
    pub fn poll_ready(&mut self, events: &mut Events, ready: impl FnMut(C)) -> usize {
        match self.epoll() {
            Ok(epoll) => self.pass_on(events.wait(epoll, Some(Duration::ZERO)), ready),
            Err(_) => 0,
        }
    }

    /// Passes on the callback of each descriptor that these events are of, and returns how
    /// many callbacks that were.
    ///
    /// A descriptor that was closed while a copy of it lives may be reported for ever; it
    /// has no callback and does not count.
    pub fn pass_on(&self, events: &[Event], mut ready: impl FnMut(C)) -> usize {
        let mut passed_on = 0;
        let mut ready = |callback: &C| {
            passed_on += 1;
            ready(callback.share());
        };
        let broken = EventFlags::ERR | EventFlags::HUP;
        for event in events {
            let (data, flags) = (event.data.u64(), event.flags);
            let registration = usize::try_from(data).ok();
            let registration = registration.and_then(|index| self.registrations.get(index));
            // The wake-up's number is nobody's index.
            let Some(registration) = registration else {
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
        for registration in &self.registrations {
            registration.reader.iter().for_each(&mut visit);
            registration.writer.iter().for_each(&mut visit);
        }
    }

    /// Forgets every descriptor and returns the callbacks.
    #[must_use = "drop the callbacks after the lock on the poller was given back"]
    pub fn take_all(&mut self) -> Vec<C> {
        self.registrations
            .drain(..)
            .flat_map(|registration| [registration.reader, registration.writer])
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
        poller.poll_ready(&mut Events::default(), |callback| names.push(callback.0));
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
