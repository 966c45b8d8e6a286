//! `cargo xtask simulate`: reads what is asked for, runs seeds, and says what came of them.

mod arguments;
mod report;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use pico_args::Arguments;
use rollcall_simulate::mutants::Mutant;
use rollcall_simulate::{Failure, Outcome, Settings, run};

use self::arguments::{Asked, HELP, Seeds};
use self::report::Tally;

/// A failure is made smaller by so many runs at most.
const SHRINK_RUNS: usize = 400;

fn main() -> ExitCode {
    silence_injected_panics();
    match simulate(Arguments::from_env()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(mut arguments: Arguments) -> Result<ExitCode> {
    if arguments.contains(["-h", "--help"]) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let asked = Asked::read(arguments)?;
    let mut tally = Tally::default();
    let failed = match asked.seeds {
        Seeds::One(seed) => {
            let settings = Settings { seed, keep_trace: asked.prints_trace, ..asked.settings.clone() };
            let outcome = run(&settings);
            outcome.trace.iter().for_each(|line| print!("{line}"));
            tally.add(&outcome);
            println!("seed {seed}: {} lines of trace, hash {:016x}", outcome.lines, outcome.hash);
            outcome.failure.map(|failure| (settings, failure))
        }
        Seeds::Many { first, count } => many(&asked, first, count, &mut tally),
        Seeds::Mutants { first, count } => return Ok(mutants(&asked, first, count)),
    };
    if let Some((settings, failure)) = failed {
        println!("\nseed {}: {failure}", settings.seed);
        report::failure(&settings, &failure, asked.shrinks.then_some(SHRINK_RUNS));
        return Ok(ExitCode::FAILURE);
    }
    Ok(tally.print(&asked))
}

/// Runs seeds until one fails, or all have run.
fn many(asked: &Asked, first: u64, count: u64, tally: &mut Tally) -> Option<(Settings, Failure)> {
    let (next, tally, start) = (AtomicU64::new(0), Mutex::new(tally), Instant::now());
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || lock(&failed).is_some() {
                        return;
                    }
                    let settings = Settings { seed: first.wrapping_add(number), ..asked.settings.clone() };
                    let outcome: Outcome = run(&settings);
                    let mut tally = lock(&tally);
                    tally.add(&outcome);
                    tally.progress(count, start);
                    if let Some(failure) = outcome.failure {
                        if asked.keeps_going {
                            tally.failed(&settings, &failure);
                        } else {
                            lock(&failed).get_or_insert((settings, failure));
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Looks for a seed that finds each mutant.
fn mutants(asked: &Asked, first: u64, count: u64) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for mutant in Mutant::ALL {
        Mutant::switch_on(Some(*mutant));
        match many(asked, first, count, &mut Tally::default()) {
            Some((settings, failure)) => println!("{mutant:<28} {:>20}  {}", settings.seed, failure.check),
            None => {
                println!("{mutant:<28} is not found by {count} seeds");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Panics that are faults are caught where they are injected; nobody has to read of them.
fn silence_injected_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"injected") {
            others(panic);
        }
    }));
}
