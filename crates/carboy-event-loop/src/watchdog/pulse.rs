//! What the loop's thread notes of itself for the one that watches it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::monotonic_seconds;

/// The bits of a note that say what the thread does; those above number the section.
const ACTIVITY_BITS: u64 = 0b11;
/// What is added to a note to number the next section.
const NEXT_SECTION: u64 = ACTIVITY_BITS + 1;

/// What a loop's thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing that is watched.
    Unwatched,
    /// Runs something that was given to the loop.
    Running,
    /// Waits for events.
    Parked,
    /// Has waited for events, and can't go on yet: it waits for a lock that the owner's code
    /// runs under.
    Resuming,
}

impl Activity {
    const fn bits(self) -> u64 {
        match self {
            Self::Unwatched => 0,
            Self::Running => 1,
            Self::Parked => 2,
            Self::Resuming => 3,
        }
    }
}

/// A number for one thing that the thread does, and what that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Note(u64);

impl Note {
    pub(super) fn activity(self) -> Activity {
        match self.0 & ACTIVITY_BITS {
            1 => Activity::Running,
            2 => Activity::Parked,
            3 => Activity::Resuming,
            _ => Activity::Unwatched,
        }
    }

    /// The note of the next section, which does this.
    fn next(self, activity: Activity) -> Self {
        Self((self.0 & !ACTIVITY_BITS).wrapping_add(NEXT_SECTION) | activity.bits())
    }
}

/// Says that the thread was found running something when it began this.
#[derive(Clone, Copy, Debug)]
#[must_use = "what was entered is to be left"]
pub struct Entered {
    is_outermost: bool,
}

/// How a stalled section ended, as its own thread saw it.
pub(super) struct SectionEnd {
    pub(super) note: Note,
    pub(super) seconds: f64,
    pub(super) description: Option<String>,
}

/// How often and how long a loop was stuck.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StallStatistics {
    /// Things that the loop ran for longer than the threshold.
    pub stalls: u64,
    /// How long these lasted together, those that have ended.
    pub stalled: Duration,
    /// The longest of them.
    pub longest: Duration,
    /// Times that the loop could not go on after a wait for longer than the threshold.
    pub resume_stalls: u64,
    /// How long these lasted together.
    pub resume_stalled: Duration,
}

/// The pulse of a loop's thread. That thread writes it, any other may look at it.
#[derive(Default)]
pub struct Pulse {
    note: AtomicU64,
    /// The note of the section that was found to be stuck, else 0.
    stalled: AtomicU64,
    /// Whether the sampler's thread sleeps until the loop's wait is over.
    sampler_sleeps: AtomicBool,
    /// The thread that looks, while there is one.
    sampler: Mutex<Option<Thread>>,
    /// The process of that thread: a fork leaves it behind.
    process: AtomicU32,
    end: Mutex<Option<SectionEnd>>,
    statistics: Statistics,
}

#[derive(Default)]
struct Statistics {
    stalls: AtomicU64,
    stalled_nanoseconds: AtomicU64,
    longest_nanoseconds: AtomicU64,
    resume_stalls: AtomicU64,
    resume_stalled_nanoseconds: AtomicU64,
}

impl Pulse {
    pub(super) fn note(&self) -> Note {
        Note(self.note.load(Ordering::Relaxed))
    }

    fn store(&self, note: Note) {
        self.note.store(note.0, Ordering::Relaxed);
    }

    // The side of the loop's thread.

    /// The thread begins to run something. What it runs inside of that is a part of it.
    #[inline]
    pub fn enter(&self) -> Entered {
        let note = self.note();
        let is_outermost = note.activity() != Activity::Running;
        if is_outermost {
            self.store(note.next(Activity::Running));
        }
        Entered { is_outermost }
    }

    /// The thread is done with it. `describe` is asked what it was if it took too long.
    #[inline]
    pub fn leave(&self, entered: Entered, describe: impl FnOnce() -> String) {
        if !entered.is_outermost {
            return;
        }
        let note = self.note();
        if self.stalled.load(Ordering::Relaxed) == note.0 {
            self.describe_end(note, describe);
        }
        self.store(Note(note.0 & !ACTIVITY_BITS));
    }

    /// Notes for the sampler when a section ended that was found to be stuck, and what it was.
    ///
    /// The section is left after that: telling what it was takes time, and may let the
    /// sampler's thread run.
    #[cold]
    fn describe_end(&self, note: Note, describe: impl FnOnce() -> String) {
        if !self.is_of_this_process() {
            return;
        }
        self.set_end(SectionEnd {
            note,
            seconds: monotonic_seconds(),
            description: None,
        });
        let description = describe();
        // Nobody holds this lock but for moments, and the end is seen without this, too.
        if let Ok(mut end) = self.end.try_lock()
            && let Some(end) = &mut *end
        {
            end.description = Some(description);
        }
        self.wake_sampler();
    }

    fn set_end(&self, section: SectionEnd) {
        if let Ok(mut end) = self.end.try_lock() {
            *end = Some(section);
        }
    }

    /// The thread begins to wait for events.
    pub fn park(&self) {
        self.store(self.note().next(Activity::Parked));
    }

    /// The wait is over, but the thread can't go on yet.
    pub fn resume(&self) {
        let note = self.note().next(Activity::Resuming);
        // Paired with the sampler's: either it sees this, or this sees that it sleeps.
        self.note.swap(note.0, Ordering::SeqCst);
        if self.sampler_sleeps.load(Ordering::SeqCst) && self.is_of_this_process() {
            self.wake_sampler();
        }
    }

    /// The thread goes on.
    pub fn resumed(&self) {
        let entered = Entered { is_outermost: true };
        self.leave(entered, String::new);
    }

    fn wake_sampler(&self) {
        if let Ok(sampler) = self.sampler.try_lock()
            && let Some(sampler) = &*sampler
        {
            sampler.unpark();
        }
    }

    fn is_of_this_process(&self) -> bool {
        self.process.load(Ordering::Relaxed) == std::process::id()
    }

    // The sampler's side.

    /// The calling thread looks from now on, and is woken when there is something to see.
    pub fn attach_sampler(&self) {
        self.process.store(std::process::id(), Ordering::Relaxed);
        *self.sampler() = Some(std::thread::current());
    }

    /// The calling thread looks no more.
    pub fn detach_sampler(&self) {
        let mut sampler = self.sampler();
        let own = std::thread::current().id();
        if sampler.as_ref().is_some_and(|thread| thread.id() == own) {
            *sampler = None;
            self.stalled.store(0, Ordering::Relaxed);
        }
    }

    fn sampler(&self) -> MutexGuard<'_, Option<Thread>> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the sampler's thread look again, from any thread.
    pub fn nudge_sampler(&self) {
        if self.is_of_this_process() {
            self.wake_sampler();
        }
    }

    /// Sleeps until the loop's wait is over or [`Self::nudge_sampler`], unless the loop has
    /// gone on since it was looked at.
    pub fn sleep_while_parked(&self, may_sleep: impl FnOnce() -> bool) {
        let seen = self.note();
        self.sampler_sleeps.store(true, Ordering::SeqCst);
        let now = Note(self.note.load(Ordering::SeqCst));
        if now == seen && now.activity() == Activity::Parked && may_sleep() {
            std::thread::park();
        }
        self.sampler_sleeps.store(false, Ordering::SeqCst);
    }

    /// Whether the section is still the one that was found to be stuck.
    pub fn is_stalled(&self) -> bool {
        let stalled = Note(self.stalled.load(Ordering::Relaxed));
        let is_ending = self.end().as_ref().is_some_and(|end| end.note == stalled);
        stalled != Note::default() && stalled == self.note() && !is_ending
    }

    fn end(&self) -> MutexGuard<'_, Option<SectionEnd>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_stall(&self, note: Note) {
        self.stalled.store(note.0, Ordering::SeqCst);
        let counter = match note.activity() {
            Activity::Resuming => &self.statistics.resume_stalls,
            _ => &self.statistics.stalls,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what the loop's thread has noted of the end of a stall.
    pub(super) fn take_end(&self, note: Note) -> Option<SectionEnd> {
        self.stalled.store(0, Ordering::Relaxed);
        let end = self.end().take();
        end.filter(|end| end.note == note)
    }

    pub(super) fn count_stalled(&self, activity: Activity, seconds: f64) {
        let nanoseconds = Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|duration| u64::try_from(duration.as_nanos()).ok())
            .unwrap_or_default();
        let statistics = &self.statistics;
        if activity == Activity::Resuming {
            statistics
                .resume_stalled_nanoseconds
                .fetch_add(nanoseconds, Ordering::Relaxed);
        } else {
            statistics
                .stalled_nanoseconds
                .fetch_add(nanoseconds, Ordering::Relaxed);
            statistics
                .longest_nanoseconds
                .fetch_max(nanoseconds, Ordering::Relaxed);
        }
    }

    /// How often and how long the loop was stuck, since it was made.
    pub fn statistics(&self) -> StallStatistics {
        let duration =
            |nanoseconds: &AtomicU64| Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        let statistics = &self.statistics;
        StallStatistics {
            stalls: statistics.stalls.load(Ordering::Relaxed),
            stalled: duration(&statistics.stalled_nanoseconds),
            longest: duration(&statistics.longest_nanoseconds),
            resume_stalls: statistics.resume_stalls.load(Ordering::Relaxed),
            resume_stalled: duration(&statistics.resume_stalled_nanoseconds),
        }
    }
}
