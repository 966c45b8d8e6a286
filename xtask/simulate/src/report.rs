//! What is said of runs that went well, and of the one that did not.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rollcall_simulate::coverage::{Coverage, Kind};
use rollcall_simulate::{Failure, Outcome, Scenario, Settings, run, schedule, shrink};

use crate::arguments::{Asked, Seeds};

/// Of so many seeds, each kind of fault has to be met in one.
const ENOUGH_SEEDS: u64 = 1_000;

/// So many lines of the trace of a failure are printed, from its end.
const TRACE_LINES: usize = 60;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What came of all runs together.
#[derive(Default)]
pub(crate) struct Tally {
    seeds: u64,
    failed: u64,
    damaged: u64,
    coverage: Coverage,
    device_seconds: u64,
    processor: Duration,
    told: Option<Instant>,
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.damaged += u64::from(outcome.is_damaged);
        self.coverage.add(&outcome.coverage);
        self.device_seconds += outcome.device_seconds;
        self.processor += outcome.processor;
    }

    /// A seed failed, and others run on.
    pub(crate) fn failed(&mut self, settings: &Settings, failure: &Failure) {
        self.failed += 1;
        println!("seed {}: {failure}", settings.seed);
    }

    /// On a terminal, how far it is.
    pub(crate) fn progress(&mut self, count: u64, start: Instant) {
        if stderr().is_terminal() && self.told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            self.told = Some(Instant::now());
            eprint!("\r{} of {count} seeds, {} s", self.seeds, start.elapsed().as_secs());
        }
    }

    /// Says it all; a failure when a kind of fault was never met.
    pub(crate) fn print(&self, asked: &Asked) -> ExitCode {
        println!("\nfaults that came to pass:");
        for kind in Kind::ALL {
            println!("{:>10}  {}", self.coverage.count(*kind), kind.name());
        }
        let speed = self.device_seconds as f64 / self.processor.as_secs_f64();
        println!(
            "{} seeds, {} failures ({} ended with a store that says that it is damaged); {} device-seconds, \
             {speed:.0} a second of processor time",
            self.seeds, self.failed, self.damaged, self.device_seconds
        );
        if self.failed > 0 {
            return ExitCode::FAILURE;
        }
        let never = Kind::ALL.iter().filter(|kind| self.coverage.count(**kind) == 0);
        let never: Vec<_> = never.map(|kind| kind.name()).collect();
        let is_enough = matches!(asked.seeds, Seeds::Many { count, .. } if count >= ENOUGH_SEEDS)
            && asked.settings.scenario == Scenario::All
            && asked.settings.faults.is_none();
        if is_enough && !never.is_empty() {
            println!("never met, so that nothing is known of it: {}", never.join("; "));
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// Says how a failure comes about, in as few faults, devices and seconds as can be found.
pub(crate) fn failure(settings: &Settings, failure: &Failure, shrink_runs: Option<usize>) {
    let smallest = match shrink_runs {
        Some(runs) => {
            println!("looking for the fewest faults, devices and seconds that it takes…");
            shrink(settings, failure, runs)
        }
        None => settings.clone(),
    };
    let outcome = run(&Settings { keep_trace: true, ..smallest.clone() });
    let lines = &outcome.trace;
    println!("\nthe end of the trace, of {} lines:", lines.len());
    lines[lines.len().saturating_sub(TRACE_LINES)..].iter().for_each(|line| print!("{line}"));
    println!("\nfaults:");
    for (place, (at_ms, fault)) in schedule(&smallest) {
        println!("{place:>4}  at {:>7.3} s  {fault}", at_ms as f64 / 1000.0);
    }
    match outcome.failure {
        Some(failure) => println!("\n{failure}"),
        None => println!("\nit does not fail again: the simulation depends on more than its seed"),
    }
    println!("\nrepeat it: {}", command(&smallest));
}

/// What leads to a run.
fn command(settings: &Settings) -> String {
    let default = Settings::of(settings.seed);
    let mut command = format!("cargo xtask simulate --seed {}", settings.seed);
    if settings.devices != default.devices {
        command += &format!(" --devices {}", settings.devices);
    }
    if settings.run_ms != default.run_ms {
        command += &format!(" --minutes {}", settings.run_ms as f64 / 60_000.0);
    }
    if settings.scenario != default.scenario {
        command += &format!(" --scenario {}", settings.scenario);
    }
    if let Some(faults) = &settings.faults {
        command += &format!(" --faults {}", list(faults));
    }
    if let Some(only) = &settings.only {
        command += &format!(" --only {}", list(only));
    }
    if let Some(stop_at_ms) = settings.stop_at_ms {
        command += &format!(" --stop-at {}", stop_at_ms as f64 / 1000.0);
    }
    command + " --no-shrink"
}

fn list<T: ToString>(numbers: &std::collections::BTreeSet<T>) -> String {
    if numbers.is_empty() {
        return "none".to_owned();
    }
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}
