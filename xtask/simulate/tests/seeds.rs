//! The simulation repeats itself, and what it found once stays found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rollcall_simulate::{Outcome, Scenario, Settings, run};

/// Seeds that have found something, a line each.
const KEPT: &str = include_str!("../seeds.txt");

fn traced(seed: u64) -> Outcome {
    run(&Settings { devices: 6, run_ms: 60_000, keep_trace: true, ..Settings::of(seed) })
}

#[test]
fn the_same_seed_leads_to_the_same_trace_byte_for_byte() {
    // Enough that both stores, both kinds of peers and most faults are met.
    for seed in 0..12 {
        let (first, second) = (traced(seed), traced(seed));
        let differs = first.trace.iter().zip(&second.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((first.hash, first.lines), (second.hash, second.lines), "seed {seed}");
    }
}

#[test]
fn the_trace_that_is_kept_is_the_one_that_is_hashed() {
    let kept = traced(1);
    let hashed = run(&Settings { devices: 6, run_ms: 60_000, ..Settings::of(1) });
    assert_eq!((kept.hash, kept.lines), (hashed.hash, hashed.lines));
    assert_eq!(kept.lines, kept.trace.len() as u64);
}

#[test]
fn two_seeds_lead_to_two_traces() {
    assert_ne!(traced(1).hash, traced(2).hash);
}

#[test]
fn without_faults_every_sample_is_counted_when_its_device_stops() {
    for seed in 0..4 {
        let outcome = run(&Settings { scenario: Scenario::Calm, devices: 6, ..Settings::of(seed) });
        assert_eq!(outcome.failure, None, "seed {seed}");
    }
}

#[test]
fn seeds_that_found_something_once_find_nothing_now() {
    for line in KEPT.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let seed = line.split_whitespace().next().unwrap().parse().unwrap();
        let outcome = run(&Settings::of(seed));
        assert_eq!(outcome.failure, None, "{line}");
    }
}
