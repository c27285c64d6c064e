//! What becomes of a promise, one state after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::test_host::{Core, Home, Returned, Value, describe, state};
use crate::{Job, Outcome, Reaction, Rule, View, Waiting};

fn number(number: i64) -> Value {
    Value::Number(number)
}

#[test]
fn the_first_to_settle_wins() {
    let (promise, resolver) = Home::default().pending();
    assert_eq!(state(&promise), "pending");
    assert!(resolver.fulfil(number(1)));
    assert!(!resolver.fulfil(number(2)));
    assert!(!resolver.clone().reject("late".to_owned()));
    assert!(!promise.cancel("cancelled".to_owned()));
    assert_eq!(state(&promise), "1");
}

#[test]
fn reactions_run_in_their_order_and_never_at_once() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    let mut kept = vec![
        home.log_outcome(&promise, "a"),
        home.log_outcome(&promise, "b"),
    ];
    resolver.fulfil(number(1));
    kept.push(home.log_outcome(&promise, "c"));
    assert!(home.take_log().is_empty());
    home.run();
    assert_eq!(home.take_log(), ["a 1", "b 1", "c 1"]);
}

#[test]
fn a_reaction_that_comes_while_others_are_queued_comes_after_them() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    let (inner_home, inner) = (home.clone(), promise.clone());
    // It is told while the promise is being settled, before the next one is queued.
    promise.react(Reaction::Waiter(Box::new(move || {
        drop(inner_home.log_outcome(&inner, "late"));
    })));
    let kept = home.log_outcome(&promise, "early");
    resolver.fulfil(number(1));
    home.run();
    assert_eq!(home.take_log(), ["early 1", "late 1"]);
    drop(kept);
}

#[test]
fn a_handler_may_return_a_value_an_error_or_a_promise() {
    let home = Home::default();
    let source = home.fulfilled(1);
    let (other, resolver) = home.pending();
    let value = home.then(&source, |_| Returned::Value(2));
    let error = home.then(&source, |_| Returned::Error("no"));
    let follows = home.then(&source, move |_| Returned::Promise(other));
    home.run();
    assert_eq!([state(&value), state(&error)], ["2", "!no"]);
    assert_eq!(state(&follows), "pending");
    resolver.fulfil(number(3));
    home.run();
    assert_eq!(state(&follows), "3");
}

#[test]
fn following_takes_the_two_jobs_that_ecmascript_says() {
    let home = Home::default();
    let source = home.fulfilled(1);
    let (promise, resolver) = home.pending();
    assert!(resolver.follow(&source));
    assert!(home.run_one().is_some());
    assert_eq!(state(&promise), "pending");
    assert!(home.run_one().is_some());
    assert_eq!(state(&promise), "1");
    assert!(home.run_one().is_none());
}

#[test]
fn who_has_resolved_can_settle_no_more() {
    let home = Home::default();
    let (source, of_source) = home.pending();
    let (promise, resolver) = home.pending();
    assert!(resolver.follow(&source));
    assert!(!resolver.fulfil(number(2)));
    assert!(resolver.pass_on().is_none());
    assert!(!resolver.follow(&home.fulfilled(3)));
    home.run();
    of_source.reject("no".to_owned());
    home.run();
    assert_eq!(state(&promise), "!no");
}

#[test]
fn the_right_to_settle_is_passed_on() {
    let (promise, first) = Home::default().pending();
    let second = first.pass_on();
    assert!(!first.fulfil(number(1)));
    assert!(second.is_some_and(|second| second.fulfil(number(2))));
    assert_eq!(state(&promise), "2");
}

#[test]
fn a_promise_can_not_follow_itself() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    resolver.follow(&promise);
    home.run();
    assert_eq!(state(&promise), "!cycle");
}

#[test]
fn a_rejection_that_nobody_looks_at_is_told_when_it_is_gone() {
    let home = Home::default();
    let ignored = home.rejected("ignored");
    assert!(ignored.is_unhandled());
    drop(ignored);
    let seen = home.rejected("seen");
    seen.mark_handled();
    drop(seen);
    let reacted = home.rejected("reacted");
    let last = home.then(&reacted, |_| Returned::Error("last"));
    drop(reacted);
    home.run();
    assert_eq!(home.unhandled(), ["ignored"]);
    drop(last);
    assert_eq!(home.unhandled(), ["ignored", "last"]);
    let (cancelled, resolver) = home.pending();
    cancelled.cancel("cancelled".to_owned());
    drop((cancelled, resolver));
    assert_eq!(home.unhandled().len(), 2);
}

#[test]
fn cancelling_gives_up_the_work_once_and_rejects() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    let given_up = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let given_up = Arc::clone(&given_up);
        promise.on_cancel(Box::new(move || {
            given_up.fetch_add(1, Ordering::Relaxed);
        }));
    }
    assert!(promise.cancel("cancelled".to_owned()));
    assert!(!promise.cancel("again".to_owned()));
    assert!(!resolver.fulfil(number(1)));
    assert_eq!(given_up.load(Ordering::Relaxed), 1);
    assert_eq!(state(&promise), "!cancelled");
}

#[test]
fn the_hook_of_a_settled_promise_is_dropped_uncalled() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    let held = Arc::new(());
    let in_hook = Arc::clone(&held);
    promise.on_cancel(Box::new(move || drop(in_hook)));
    resolver.fulfil(number(1));
    assert_eq!(Arc::strong_count(&held), 1);
    let in_hook = Arc::clone(&held);
    promise.on_cancel(Box::new(move || drop(in_hook)));
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn what_is_to_be_cleaned_up_is_done_by_the_first_who_comes() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    promise.set_cleanup("taken".to_owned());
    assert_eq!(promise.take_cleanup().as_deref(), Some("taken"));
    assert!(promise.take_cleanup().is_none());
    resolver.fulfil(number(1));
    promise.set_cleanup("too late".to_owned());
    assert!(promise.take_cleanup().is_none());
    let (promise, _resolver) = home.pending();
    promise.set_cleanup("of a cancelled one".to_owned());
    promise.cancel("cancelled".to_owned());
    assert!(promise.take_cleanup().is_none());
    home.run();
    assert_eq!(home.take_log(), ["of a cancelled one"]);
}

#[test]
fn a_cancelled_chain_is_cleaned_up_from_the_source_outwards() {
    let home = Home::default();
    let (source, _resolver) = home.pending();
    source.set_cleanup("source".to_owned());
    let middle = home.log_outcome(&source, "middle reacts to");
    middle.set_cleanup("middle".to_owned());
    let last = home.log_outcome(&middle, "last reacts to");
    last.set_cleanup("last".to_owned());
    let after = home.log_outcome(&last, "after reacts to");
    after.cancel("given up".to_owned());
    home.run();
    let expected = [
        "source",
        "middle reacts to !cancelled",
        "middle",
        "last reacts to !cancelled",
        "last",
        "after reacts to !cancelled",
    ];
    assert_eq!(home.take_log(), expected);
    assert_eq!([state(&source), state(&last)], ["!cancelled", "!cancelled"]);
    assert_eq!(state(&after), "!given up");
}

#[test]
fn a_long_chain_is_run_cancelled_and_dropped_without_a_deep_stack() {
    let links = 100_000;
    for end in ["run", "cancel", "drop"] {
        let home = Home::default();
        let (first, resolver) = home.pending();
        let mut last = first.clone();
        for _ in 0..links {
            last = home.then(&last, |outcome| match outcome {
                Outcome::Fulfilled(Value::Number(number)) => Returned::Value(number + 1),
                _ => Returned::Error("passed on"),
            });
        }
        match end {
            "run" => {
                resolver.fulfil(number(0));
                home.run();
                assert_eq!(state(&last), links.to_string());
            }
            "cancel" => {
                last.cancel("given up".to_owned());
                assert_eq!(state(&first), "!cancelled");
                home.run();
            }
            _ => drop((first, resolver)),
        }
    }
}

#[test]
fn what_is_dropped_leaves_nothing_behind() {
    let home = Home::default();
    let (first, resolver) = home.pending();
    let second = home.then(&first, |_| Returned::Value(1));
    second.set_cleanup("never".to_owned());
    let known = [first.downgrade(), second.downgrade()];
    assert!(known[0].is(&first) && !known[0].is(&second) && known[0].is_pending());
    drop((first, second, resolver));
    assert!(known.iter().all(|promise| promise.upgrade().is_none()));
    assert!(!known[0].is_pending());
    assert!(home.take_log().is_empty());
}

#[test]
fn a_promise_shows_what_it_holds() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    promise.set_cleanup("cleanup".to_owned());
    let kept = home.then(&promise, |_| Returned::Value(1));
    let mut seen = String::new();
    promise.inspect(|view| {
        if let View::Pending { reactions, cleanup } = view {
            seen = format!("{} {cleanup:?}", reactions.len());
        }
    });
    assert_eq!(seen, "1 Some(\"cleanup\")");
    resolver.fulfil(number(2));
    promise.inspect(|view| {
        if let View::Settled { outcome, .. } = view {
            seen = describe(outcome);
        }
    });
    assert_eq!(seen, "2");
    drop(kept);
}

#[test]
fn jobs_know_whether_they_run_code_of_the_application() {
    let home = Home::default();
    let (promise, resolver) = home.pending();
    let source = home.fulfilled(1);
    let follow = Job::Follow { resolver, source };
    assert!(!follow.needs_home());
    let cleanup = "cleanup".to_owned();
    assert!(Job::CleanUp { promise, cleanup }.needs_home());
}

#[test]
fn ids_and_equality_are_those_of_the_promise() {
    let home = Home::default();
    let (one, _resolver) = home.pending();
    let same: Core = one.clone();
    let (other, _other_resolver) = home.pending();
    assert!(one == same && one.id() == same.id());
    assert!(one != other && one.id() != other.id());
    assert!(!one.is_unique());
}

/// Waits for nothing any more, and counts how many of it there are.
struct GivenUp {
    _counted: Arc<()>,
}

impl Waiting for GivenUp {
    fn notify(self: Box<Self>) {}

    fn is_waiting(&self) -> bool {
        false
    }
}

#[test]
fn what_has_given_up_waiting_is_forgotten() {
    let home = Home::default();
    let (source, resolver) = home.pending();
    source.keep();
    let (count, counted) = (1000, Arc::new(()));
    let kept = home.log_outcome(&source, "kept");
    for _ in 0..count {
        let then = home.then(&source, |_| Returned::Value(0));
        then.cancel("no".to_owned());
        let sources = [source.clone(), home.fulfilled(1)];
        home.gather(Rule::All, &sources).cancel("no".to_owned());
        let waiter = GivenUp {
            _counted: Arc::clone(&counted),
        };
        source.react(Reaction::Waiter(Box::new(waiter)));
    }
    let mut left = 0;
    source.inspect(|view| {
        if let View::Pending { reactions, .. } = view {
            left = reactions.len();
        }
    });
    assert!((1..100).contains(&left), "{left} reactions are left");
    assert!(Arc::strong_count(&counted) < 100);
    home.run();
    resolver.fulfil(number(1));
    home.run();
    assert_eq!(home.take_log(), ["kept 1"]);
    drop(kept);
}
