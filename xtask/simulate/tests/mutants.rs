//! The simulation finds what it is for: faults of kinds that really happened, switched on one by one. Each has a seed
//! below 1,000 that finds it; `cargo xtask simulate --mutants` looks for others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rollcall_simulate::mutants::{Mutant, named};
use rollcall_simulate::{Settings, run};

/// A mutant, a seed that finds it, and the check that fails. The switch is the process's, so one test does all.
const FOUND: &[(&str, u64, &str)] = &[
    ("ack-before-commit", 1, "acknowledged and not counted"),
    ("success-for-unknown", 1, "acknowledged and not counted"),
    ("duplicate-counted", 1, "counted twice"),
    ("duplicate-in-flush-counted", 1, "counted twice"),
    ("in-doubt-forgotten", 134, "bare message counted twice"),
    ("fence-ignored", 10, "acknowledged and not counted"),
    ("state-kept-after-error", 29, "corrupt"),
    ("sweep-forgotten", 106, "counted twice"),
    ("checkpoint-before-rows", 6, "rows"),
    ("gap-closed", 1, "rows"),
    ("boots-forgotten", 1, "rows"),
    ("log-time-follows-clock", 17, "rows"),
    ("log-time-of-each-worker", 0, "log"),
    ("sealed-added-twice", 17, "rows"),
    ("dated-by-arrival", 1, "time"),
    ("order-lost", 1, "order"),
    ("undecided-counted", 1, "windows"),
    ("append-not-durable", 2, "acknowledged and not counted"),
    ("tail-counted-twice", 2, "windows"),
    ("refusal-is-success", 1, "sums"),
    ("in-flight-kept", 1, "panic"),
    ("number-reused", 1, "number"),
];

#[test]
fn every_mutant_is_found_and_by_nothing_else_than_itself() {
    let listed: Vec<_> = FOUND.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        listed,
        Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>(),
        "each has its line"
    );
    for (name, seed, check) in FOUND {
        Mutant::switch_on(Some(named(name).unwrap()));
        let outcome = run(&Settings::of(*seed));
        let failure = outcome.failure.unwrap_or_else(|| panic!("seed {seed} does not find {name}"));
        assert_eq!(failure.check, *check, "{name}: {failure}");
        Mutant::switch_on(None);
        assert_eq!(run(&Settings::of(*seed)).failure, None, "seed {seed} finds something else than {name}");
    }
}
