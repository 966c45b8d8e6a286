//! The command line.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail, ensure};
use pico_args::Arguments;
use rollcall_simulate::Settings;
use rollcall_simulate::mutants::{Mutant, named};

/// The same that `cargo xtask simulate --help` prints.
pub(crate) const HELP: &str = include_str!("../help.txt");

/// What is asked for.
pub(crate) struct Asked {
    pub(crate) seeds: Seeds,
    /// All but the seed.
    pub(crate) settings: Settings,
    pub(crate) jobs: usize,
    pub(crate) prints_trace: bool,
    pub(crate) shrinks: bool,
    pub(crate) keeps_going: bool,
}

/// Which seeds.
pub(crate) enum Seeds {
    One(u64),
    /// Until each mutant is found by one.
    Mutants {
        first: u64,
        count: u64,
    },
    Many {
        first: u64,
        count: u64,
    },
}

impl Asked {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(mut arguments: Arguments) -> Result<Self> {
        let mut settings = Settings::of(0);
        if let Some(devices) = arguments.opt_value_from_str("--devices")? {
            settings.devices = devices;
        }
        if let Some(minutes) = arguments.opt_value_from_str::<_, f64>("--minutes")? {
            settings.run_ms = milliseconds("--minutes", minutes * 60.0)?;
        }
        if let Some(seconds) = arguments.opt_value_from_str::<_, f64>("--stop-at")? {
            settings.stop_at_ms = Some(milliseconds("--stop-at", seconds)?);
        }
        ensure!(settings.devices > 0, "--devices 0: there has to be one");
        if let Some(scenario) = arguments.opt_value_from_str::<_, String>("--scenario")? {
            settings.scenario = scenario.parse().map_err(|error: String| anyhow!(error))?;
        }
        settings.faults = arguments.opt_value_from_fn("--faults", numbers)?;
        settings.only = arguments.opt_value_from_fn("--only", numbers)?;
        Mutant::switch_on(
            arguments.opt_value_from_fn("--mutant", named).map_err(|error| anyhow!("{error}"))?,
        );
        let all_mutants = arguments.contains("--mutants");
        let (one, many) = (arguments.opt_value_from_str("--seed")?, arguments.opt_value_from_str("--seeds")?);
        let seeds = match (one, many) {
            (Some(_), Some(_)) => bail!("--seed and --seeds: one of them"),
            (Some(seed), None) => Seeds::One(seed),
            (None, count) if all_mutants => {
                Seeds::Mutants { first: rollcall_harness::seed(), count: count.unwrap_or(1_000) }
            }
            (None, count) => Seeds::Many { first: rollcall_harness::seed(), count: count.unwrap_or(200) },
        };
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = arguments.opt_value_from_str("--jobs")?.unwrap_or_else(processors);
        let prints_trace = arguments.contains("--trace");
        let shrinks = !arguments.contains("--no-shrink");
        let keeps_going = arguments.contains("--keep-going");
        match arguments.finish().first() {
            None => Ok(Self { seeds, settings, jobs, prints_trace, shrinks, keeps_going }),
            Some(unknown) => bail!("unexpected argument {unknown:?}\n\n{HELP}"),
        }
    }
}

fn milliseconds(of: &str, seconds: f64) -> Result<u64> {
    ensure!((1.0..=1e7).contains(&seconds), "{of} is to be at least a second, and not a year");
    Ok((seconds * 1000.0) as u64)
}

fn numbers<T: std::str::FromStr + Ord>(text: &str) -> Result<BTreeSet<T>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    let number = |number: &str| number.parse().map_err(|_| format!("{number:?} is no number"));
    text.split(',').map(number).collect()
}
