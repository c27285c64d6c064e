//! Callbacks that wait for a time, earliest first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Callback;

/// Below this many cancelled timers a clean-up costs more than it frees, as in asyncio.
const CANCELLED_TIMERS_BEFORE_CLEANUP: usize = 100;

struct Timer<C> {
    when_seconds: f64,
    /// Counts up, so that timers of one time fire in the order of their creation.
    sequence: u64,
    callback: C,
}

impl<C> Ord for Timer<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed, because the standard heap gives its greatest entry first.
        other
            .when_seconds
            .total_cmp(&self.when_seconds)
            .then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl<C> PartialOrd for Timer<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C> PartialEq for Timer<C> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<C> Eq for Timer<C> {}

/// A heap of callbacks by time, with a stable order for equal times.
///
/// Cancelled timers stay in the heap until they come up or until more than half of a
/// large heap is cancelled, as asyncio does: removing each at once would cost a search.
pub struct TimerHeap<C> {
    timers: BinaryHeap<Timer<C>>,
    next_sequence: u64,
    cancelled: usize,
}

impl<C> Default for TimerHeap<C> {
    fn default() -> Self {
        Self {
            timers: BinaryHeap::new(),
            next_sequence: 0,
            cancelled: 0,
        }
    }
}

impl<C: Callback> TimerHeap<C> {
    /// Adds a callback for a time in seconds of the monotonic clock.
    ///
    /// A time that is not a number is due at once, as it is in asyncio, where it is not
    /// later than any other.
    pub fn push(&mut self, when_seconds: f64, callback: C) {
        let when_seconds = if when_seconds.is_nan() {
            f64::NEG_INFINITY
        } else {
            when_seconds
        };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.timers.push(Timer {
            when_seconds,
            sequence,
            callback,
        });
    }

    /// The time of the earliest timer, in seconds, cancelled or not.
    pub fn earliest_seconds(&self) -> Option<f64> {
        self.timers.peek().map(|timer| timer.when_seconds)
    }

    /// Removes and returns the earliest timer if its time is not after `until_seconds`.
    pub fn pop_due(&mut self, until_seconds: f64) -> Option<C> {
        if self.earliest_seconds()? > until_seconds {
            return None;
        }
        let timer = self.timers.pop()?;
        if timer.callback.is_cancelled() {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        Some(timer.callback)
    }

    /// Counts a timer of this heap as cancelled and, when most are, takes those out.
    ///
    /// They are returned, because dropping one may run the owner's code, which must not
    /// happen while the owner holds a lock on this heap.
    #[must_use = "drop the removed timers after the lock on the heap was given back"]
    pub fn count_cancelled(&mut self) -> Vec<C> {
        self.cancelled += 1;
        if self.cancelled <= CANCELLED_TIMERS_BEFORE_CLEANUP
            || self.cancelled * 2 <= self.timers.len()
        {
            return Vec::new();
        }
        self.cancelled = 0;
        let (removed, kept): (Vec<_>, Vec<_>) = self
            .timers
            .drain()
            .partition(|timer| timer.callback.is_cancelled());
        self.timers = kept.into();
        removed.into_iter().map(|timer| timer.callback).collect()
    }

    /// Removes and returns every timer.
    #[must_use = "drop the removed timers after the lock on the heap was given back"]
    pub fn take_all(&mut self) -> Vec<C> {
        self.cancelled = 0;
        self.timers.drain().map(|timer| timer.callback).collect()
    }

    /// Passes each timer's callback to `visit`, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(&C)) {
        self.timers.iter().for_each(|timer| visit(&timer.callback));
    }

    /// The number of timers, cancelled ones included.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether there is no timer at all.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering as MemoryOrdering};

    use proptest::prelude::*;

    use super::*;

    struct Named(&'static str, Arc<AtomicBool>);

    impl Callback for Named {
        fn is_cancelled(&self) -> bool {
            self.1.load(MemoryOrdering::Relaxed)
        }

        fn share(&self) -> Self {
            Self(self.0, Arc::clone(&self.1))
        }
    }

    fn named(name: &'static str) -> Named {
        Named(name, Arc::default())
    }

    #[test]
    fn fires_by_time_then_by_creation() {
        let mut heap = TimerHeap::default();
        for (when, name) in [(2.0, "c"), (1.0, "a"), (1.0, "b"), (-1.0, "negative")] {
            heap.push(when, named(name));
        }
        let order: Vec<_> = std::iter::from_fn(|| heap.pop_due(2.0))
            .map(|callback| callback.0)
            .collect();
        assert_eq!(order, ["negative", "a", "b", "c"]);
    }

    #[test]
    fn takes_what_is_not_a_number_for_due() {
        let mut heap = TimerHeap::default();
        heap.push(f64::INFINITY, named("never"));
        heap.push(f64::NAN, named("now"));
        heap.push(-f64::NAN, named("now, too"));
        assert_eq!(heap.pop_due(0.0).map(|callback| callback.0), Some("now"));
        assert_eq!(
            heap.pop_due(0.0).map(|callback| callback.0),
            Some("now, too")
        );
        assert!(heap.pop_due(1e300).is_none());
    }

    #[test]
    fn keeps_what_is_not_due() {
        let mut heap = TimerHeap::default();
        heap.push(5.0, named("later"));
        assert!(heap.pop_due(4.9).is_none());
        assert_eq!(heap.earliest_seconds(), Some(5.0));
    }

    #[test]
    fn sheds_cancelled_timers_once_they_are_most() {
        let mut heap = TimerHeap::default();
        let mut removed = 0;
        for index in 0..300 {
            let timer = named("cancelled");
            let flag = Arc::clone(&timer.1);
            heap.push(f64::from(index), timer);
            flag.store(true, MemoryOrdering::Relaxed);
            removed += heap.count_cancelled().len();
        }
        assert!(removed >= 200, "only {removed} were removed");
        assert!(heap.len() <= CANCELLED_TIMERS_BEFORE_CLEANUP + 1);
    }

    /// One thing that is done to a heap.
    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        /// The timer that was made as the so-manieth.
        Cancel(usize),
        PopDue(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..20_u8).prop_map(Step::Push),
            3 => any::<usize>().prop_map(Step::Cancel),
            2 => (0..22_u8).prop_map(Step::PopDue),
        ];
        proptest::collection::vec(step, 0..1000)
    }

    /// A timer of the model.
    struct Modelled {
        when: u8,
        cancelled: Arc<AtomicBool>,
    }

    proptest! {
        /// The model is a list in the order of creation, of which the first of the earliest
        /// timers is the next. That cancelled ones come out or not is left open, as it is in
        /// asyncio: whoever runs timers skips them.
        #[test]
        fn gives_the_timers_that_a_sorted_list_gives(steps in steps()) {
            let mut heap = TimerHeap::default();
            let mut model: Vec<Modelled> = Vec::new();
            let mut made: Vec<Arc<AtomicBool>> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(when) => {
                        let timer = named("");
                        let cancelled = Arc::clone(&timer.1);
                        made.push(Arc::clone(&cancelled));
                        heap.push(f64::from(when), timer);
                        model.push(Modelled { when, cancelled });
                    }
                    Step::Cancel(index) => {
                        let Some(index) = index.checked_rem(made.len()) else { continue };
                        let is_waiting = model
                            .iter()
                            .any(|timer| Arc::ptr_eq(&timer.cancelled, &made[index]));
                        let was_cancelled = made[index].swap(true, MemoryOrdering::Relaxed);
                        if is_waiting && !was_cancelled {
                            let removed = heap.count_cancelled();
                            prop_assert!(removed.iter().all(Callback::is_cancelled));
                        }
                    }
                    Step::PopDue(until) => {
                        let due = std::iter::from_fn(|| heap.pop_due(f64::from(until)));
                        let due: Vec<_> = due.filter(|timer| !timer.is_cancelled()).collect();
                        let mut expected: Vec<Modelled> =
                            model.extract_if(.., |timer| timer.when <= until).collect();
                        expected.retain(|timer| !timer.cancelled.load(MemoryOrdering::Relaxed));
                        expected.sort_by_key(|timer| timer.when);
                        prop_assert_eq!(due.len(), expected.len());
                        for (given, wanted) in due.iter().zip(&expected) {
                            prop_assert!(Arc::ptr_eq(&given.1, &wanted.cancelled));
                        }
                    }
                }
                let waiting = model
                    .iter()
                    .filter(|timer| !timer.cancelled.load(MemoryOrdering::Relaxed));
                prop_assert!(heap.len() >= waiting.count());
                prop_assert!(heap.cancelled <= heap.len());
            }
        }
    }
}
