//! This commit and another one, measured in turns: what else the machine does meanwhile slows both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::workspace;

use super::fleet::Throughput;
use super::fresh_host;
use super::history::History;
use super::table::{self, Target};
use super::usage;
use crate::stack::StoreChoice;

/// How often each is measured; the median counts.
const ROUNDS: usize = 3;

/// How many times the other's a figure may be: within 10 % of it.
const TIMES: (f64, f64) = (0.9, 1.1);

/// Which commit, and its host.
pub(super) struct Other {
    commit: String,
    binary: PathBuf,
}

/// Builds the host of a commit, in a folder of its own that stays.
pub(super) fn build(commit: &str, program: Program) -> Result<Other> {
    let commit = git(&["rev-parse", "--verify", "--short=12", &format!("{commit}^{{commit}}")])?;
    let commit = commit.trim().to_owned();
    let dir = workspace::kept_dir("against")?.join(&commit);
    if !dir.exists() {
        // Under another name until it is whole.
        let new = workspace::kept_dir("against")?.join(format!("{commit}.new"));
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir(&new)?;
        let archive = new.join("archive.tar");
        git(&["archive", "--output", &archive.to_string_lossy(), &commit])?;
        output(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&new))?;
        fs::remove_file(archive)?;
        fs::rename(new, &dir)?;
    }
    let binary = cargo::build_at(&dir, program, Profile::Release)?;
    Ok(Other { commit, binary })
}

fn git(arguments: &[&str]) -> Result<String> {
    output(Command::new("git").current_dir(workspace::root()).args(arguments))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}: {}", cargo::show(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What was measured in one round.
struct Figure {
    what: String,
    unit: &'static str,
    /// Is more of it better?
    more: bool,
    value: f64,
}

/// Measures both in turns and prints each figure's medians.
pub(super) fn compare(binary: &Path, other: &Other, store: StoreChoice, messages: u64) -> Result<()> {
    let (mut these, mut others) = (Vec::new(), Vec::new());
    for number in 1..=ROUNDS {
        println!("round {number} of {ROUNDS}");
        // Neither is always the one that comes after the other.
        let swap = number % 2 == 0;
        let mut turns = [(&mut others, other.binary.as_path()), (&mut these, binary)];
        if swap {
            turns.reverse();
        }
        for (figures, binary) in turns {
            figures.push(round(binary, store, messages)?);
        }
    }
    let there = format!("at {}", other.commit);
    println!("\n{:<50} {:>12} {:>12} {:5} {:>6} target", "medians of three", there, "here", "", "times");
    let first = these.first().context("nothing was measured")?;
    for (at, figure) in first.iter().enumerate() {
        let of = |rounds: &[Vec<Figure>]| median(rounds.iter().map(|round| round[at].value).collect());
        let (there, here) = (of(&others), of(&these));
        let times = here / there;
        let target = match figure.more {
            true => Target::AtLeast(TIMES.0),
            false => Target::AtMost(TIMES.1),
        };
        let verdict = target.verdict(times);
        let [there, here, times] = [there, here, times].map(table::number);
        println!(
            "{:<50} {there:>12} {here:>12} {:5} {times:>6} {target:<9} {verdict}",
            figure.what, figure.unit
        );
    }
    Ok(())
}

fn round(binary: &Path, store: StoreChoice, messages: u64) -> Result<Vec<Figure>> {
    let took = Throughput::measure(&fresh_host(binary, store)?, None)?;
    let fresh = fresh_host(binary, store)?;
    let mut history = History::start(&fresh)?;
    let filled = history.fill(messages, messages)?;
    history.catch_up()?;
    let disk = usage::disk(&fresh.settings.data)?.allocated as f64 / messages as f64;
    let figure = |what: &str, unit, more, value| Figure { what: what.to_owned(), unit, more, value };
    let mut figures = vec![
        figure("live: acknowledged messages a second", "", true, took.rate),
        figure("live: processor time for 100,000 messages", "s", false, took.cpu_s),
        figure("live: on disk a message, allocated", "bytes", false, took.disk_bytes),
        figure("thirty days: acknowledged messages a second", "", true, filled),
        figure("thirty days: on disk a message, allocated", "bytes", false, disk),
    ];
    for (range, latency) in history.ask()? {
        figures.push(figure(&format!("status_count, {range}, p50"), "ms", false, latency.p50_ms));
        figures.push(figure(&format!("status_count, {range}, p99"), "ms", false, latency.p99_ms));
    }
    for Figure { what, unit, value, .. } in &figures {
        println!("  {what:<50} {:>12} {unit}", table::number(*value));
    }
    history.stop()?;
    Ok(figures)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
