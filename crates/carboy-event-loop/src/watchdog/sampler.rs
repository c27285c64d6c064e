//! Tells from a few looks at a pulse whether the loop is stuck.

use super::pulse::{Activity, Note, Pulse};

/// Looks in the time of a threshold. A stall is noticed up to one look late, and one that is
/// shorter than the threshold never.
const LOOKS_PER_THRESHOLD: f64 = 8.0;

/// A gap between two looks that is a larger part of the threshold than this is not the loop's
/// doing: the sampler's thread did not run either.
const LONGEST_GAP: f64 = 0.5;

/// Looks at a parked loop before the sampler's thread goes to sleep.
const LOOKS_BEFORE_SLEEP: u32 = 2;

/// Something that the loop does for too long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stall {
    /// [`Activity::Running`] or [`Activity::Resuming`].
    pub activity: Activity,
    /// How long it has lasted at least: since it was seen first.
    pub seconds: f64,
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Nothing that takes long.
    Nothing,
    /// The loop waits for events: see [`Pulse::sleep_while_parked`].
    Parked,
    /// The same thing as at the look before: told once.
    Suspicion,
    /// For as long as the threshold: told once.
    Stall(Stall),
    /// The stall has ended: how long it lasted, and what the loop's thread says it was.
    End(Stall, Option<String>),
}

/// Looks at a pulse.
#[derive(Debug)]
pub struct Sampler {
    threshold_seconds: f64,
    /// What was seen last, and when it was seen first.
    note: Note,
    first_seconds: f64,
    /// When the last look was.
    looked_seconds: f64,
    /// How long of the time since `first_seconds` the sampler's thread did not run.
    lost_seconds: f64,
    looks: u32,
    is_stalled: bool,
}

impl Sampler {
    /// Begins to look. Times are in seconds of one clock.
    pub fn new(threshold_seconds: f64, now_seconds: f64) -> Self {
        Self {
            threshold_seconds,
            note: Note::default(),
            first_seconds: now_seconds,
            looked_seconds: now_seconds,
            lost_seconds: 0.0,
            looks: 0,
            is_stalled: false,
        }
    }

    /// Changes the threshold.
    pub fn set_threshold(&mut self, threshold_seconds: f64) {
        self.threshold_seconds = threshold_seconds;
    }

    /// The time from one look to the next, in seconds.
    pub fn interval_seconds(&self) -> f64 {
        self.threshold_seconds / LOOKS_PER_THRESHOLD
    }

    /// Looks.
    pub fn look(&mut self, pulse: &Pulse, now_seconds: f64) -> Finding {
        let gap = now_seconds - self.looked_seconds;
        self.looked_seconds = now_seconds;
        if gap > self.threshold_seconds * LONGEST_GAP {
            self.lost_seconds += gap - self.interval_seconds();
        }
        let note = pulse.note();
        if note != self.note {
            if self.is_stalled {
                return self.end(pulse, now_seconds);
            }
            self.begin(note, now_seconds);
            return Finding::Nothing;
        }
        self.looks = self.looks.saturating_add(1);
        match note.activity() {
            Activity::Parked if self.looks >= LOOKS_BEFORE_SLEEP => Finding::Parked,
            Activity::Unwatched | Activity::Parked => Finding::Nothing,
            activity @ (Activity::Running | Activity::Resuming) => {
                let seconds = self.lasted_until(now_seconds);
                if !self.is_stalled && seconds >= self.threshold_seconds {
                    self.is_stalled = true;
                    pulse.begin_stall(note);
                    Finding::Stall(Stall { activity, seconds })
                } else if self.looks == 1 {
                    Finding::Suspicion
                } else {
                    Finding::Nothing
                }
            }
        }
    }

    /// The time until now was spent by the sampler's thread itself, with a report.
    pub fn skip_to(&mut self, now_seconds: f64) {
        self.looked_seconds = now_seconds;
    }

    /// Ends with the loop: what is stalled now ends, too.
    pub fn finish(&mut self, pulse: &Pulse, now_seconds: f64) -> Finding {
        if self.is_stalled {
            self.end(pulse, now_seconds)
        } else {
            Finding::Nothing
        }
    }

    fn begin(&mut self, note: Note, now_seconds: f64) {
        self.note = note;
        self.first_seconds = now_seconds;
        self.lost_seconds = 0.0;
        self.looks = 0;
    }

    fn end(&mut self, pulse: &Pulse, now_seconds: f64) -> Finding {
        let activity = self.note.activity();
        let end = pulse.take_end(self.note);
        let ended_seconds = end.as_ref().map_or(now_seconds, |end| end.seconds);
        let seconds = self.lasted_until(ended_seconds);
        pulse.count_stalled(activity, seconds);
        self.is_stalled = false;
        self.begin(pulse.note(), now_seconds);
        let description = end.and_then(|end| end.description);
        Finding::End(Stall { activity, seconds }, description)
    }

    fn lasted_until(&self, seconds: f64) -> f64 {
        (seconds - self.first_seconds - self.lost_seconds).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    // Powers of two, so that their sums are exact.
    const THRESHOLD: f64 = 1.0;
    const INTERVAL: f64 = 0.125;

    /// Looks every interval until there is something to tell, at most so often.
    fn look_on(sampler: &mut Sampler, pulse: &Pulse, now: &mut f64, looks: u32) -> Vec<Finding> {
        let mut findings = Vec::new();
        for _ in 0..looks {
            *now += INTERVAL;
            match sampler.look(pulse, *now) {
                Finding::Nothing | Finding::Suspicion => {}
                finding => findings.push(finding),
            }
        }
        findings
    }

    fn assert_stall(finding: &Finding, activity: Activity, seconds: f64) {
        match finding {
            Finding::Stall(stall) | Finding::End(stall, _) => {
                assert_eq!(stall.activity, activity);
                assert!((stall.seconds - seconds).abs() < 1e-6, "{finding:?}");
            }
            finding => panic!("{finding:?}"),
        }
    }

    fn leave(pulse: &Pulse, entered: super::super::Entered) {
        pulse.leave(entered, || "what it was".to_owned());
    }

    #[test]
    fn one_thing_for_as_long_as_the_threshold_is_a_stall_told_once() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        let entered = pulse.enter();
        let findings = look_on(&mut sampler, &pulse, &mut now, 50);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_stall(&findings[0], Activity::Running, THRESHOLD);
        assert!(pulse.is_stalled());
        assert_eq!(pulse.statistics().stalls, 1);

        leave(&pulse, entered);
        assert!(!pulse.is_stalled());
        let findings = look_on(&mut sampler, &pulse, &mut now, 50);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(matches!(&findings[0], Finding::End(..)), "{findings:?}");
        assert_eq!(pulse.statistics().stalls, 1);
    }

    #[test]
    fn many_things_that_take_long_together_are_none() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        for _ in 0..50 {
            let entered = pulse.enter();
            assert_eq!(look_on(&mut sampler, &pulse, &mut now, 7), []);
            leave(&pulse, entered);
        }
        assert_eq!(pulse.statistics().stalls, 0);
    }

    #[test]
    fn what_is_begun_inside_is_a_part_of_the_whole() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        let outer = pulse.enter();
        let mut findings = Vec::new();
        for _ in 0..3 {
            let inner = pulse.enter();
            findings.extend(look_on(&mut sampler, &pulse, &mut now, 3));
            leave(&pulse, inner);
        }
        assert_eq!(findings.len(), 1, "{findings:?}");
        leave(&pulse, outer);
    }

    #[test]
    fn a_loop_that_waits_or_does_nothing_watched_is_not_stuck() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        assert_eq!(look_on(&mut sampler, &pulse, &mut now, 50), []);
        pulse.park();
        let findings = look_on(&mut sampler, &pulse, &mut now, 50);
        assert!(!findings.is_empty());
        assert!(findings.iter().all(|finding| *finding == Finding::Parked));
        pulse.resume();
        pulse.resumed();
        assert_eq!(look_on(&mut sampler, &pulse, &mut now, 50), []);
        assert_eq!(pulse.statistics(), super::super::StallStatistics::default());
    }

    #[test]
    fn a_loop_that_can_not_go_on_after_its_wait_is_told_apart() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        pulse.park();
        look_on(&mut sampler, &pulse, &mut now, 3);
        pulse.resume();
        let findings = look_on(&mut sampler, &pulse, &mut now, 15);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_stall(&findings[0], Activity::Resuming, THRESHOLD);
        pulse.resumed();
        assert_eq!(look_on(&mut sampler, &pulse, &mut now, 1).len(), 1);
        let statistics = pulse.statistics();
        assert_eq!((statistics.stalls, statistics.resume_stalls), (0, 1));
        assert!(statistics.resume_stalled > Duration::ZERO);
        assert_eq!(statistics.longest, Duration::ZERO);
    }

    #[test]
    fn a_time_in_which_the_sampler_did_not_run_either_is_not_counted() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        let entered = pulse.enter();
        assert_eq!(look_on(&mut sampler, &pulse, &mut now, 3), []);
        now += 3600.0;
        assert_eq!(look_on(&mut sampler, &pulse, &mut now, 3), []);
        let findings = look_on(&mut sampler, &pulse, &mut now, 5);
        assert_stall(&findings[0], Activity::Running, THRESHOLD);
        leave(&pulse, entered);
    }

    #[test]
    fn the_time_of_a_report_belongs_to_the_stall() {
        let (pulse, mut now) = (Pulse::default(), 100.0);
        let mut sampler = Sampler::new(THRESHOLD, now);
        let _stuck = pulse.enter();
        look_on(&mut sampler, &pulse, &mut now, 9);
        now += 10.0;
        sampler.skip_to(now);
        // The loop's own clock is another one here, so the end is seen by the sampler.
        assert_stall(&sampler.finish(&pulse, now), Activity::Running, 11.0);
        let lasted = pulse.statistics().stalled.as_secs_f64();
        assert!((lasted - 11.0).abs() < 1e-6, "{lasted}");
        assert_eq!(sampler.finish(&pulse, now), Finding::Nothing);
    }

    #[test]
    fn the_loops_own_thread_says_what_it_was_and_when_it_ended() {
        let pulse = Pulse::default();
        pulse.attach_sampler();
        let begun = crate::monotonic_seconds();
        let mut sampler = Sampler::new(THRESHOLD, begun);
        let entered = pulse.enter();
        let mut now = begun;
        sampler.look(&pulse, now);
        while !pulse.is_stalled() {
            now += INTERVAL;
            sampler.look(&pulse, now);
        }
        leave(&pulse, entered);
        let Finding::End(stall, description) = sampler.look(&pulse, now) else {
            panic!("the end was not found");
        };
        assert_eq!(description.as_deref(), Some("what it was"));
        // It ended by the real clock, which has hardly moved.
        assert!(stall.seconds < THRESHOLD, "{stall:?}");
        pulse.detach_sampler();
    }

    #[test]
    fn a_sleeping_sampler_is_woken_when_the_wait_is_over() {
        let pulse = Pulse::default();
        pulse.park();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pulse.attach_sampler();
                while pulse.note().activity() == Activity::Parked {
                    pulse.sleep_while_parked(|| true);
                }
                pulse.detach_sampler();
            });
            // Whether it sleeps by now or not, it has to see this.
            pulse.resume();
        });
    }
}
