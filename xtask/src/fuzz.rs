//! `cargo xtask fuzz`: builds the fuzz targets for libFuzzer, on the compiler that the rest is built with, and runs them.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Workspace};
use rollcall_harness::workspace;

use crate::help;
use crate::tally::TestTally;

pub(crate) const HELP: &str = "\
Fuzzes everything that reads bytes, target by target: messages, packets of clients, queries, files of credentials, entries
of the log, rows of devices, documents and lines to import; and a board's settings, its samples in flash, and the
packets it watches.

  cargo xtask fuzz [--seconds S] [TARGET…]     S seconds each (10), of all targets or of these
  cargo xtask fuzz --input FILE TARGET         once, with what made it fail

It begins with the seeds in host/fuzz/seeds and with what earlier runs found, in target/xtask/fuzz. It needs a C++
compiler, for libFuzzer.
";

/// What libFuzzer needs to see which way an input went, as cargo-fuzz has it. Sanitizers need a nightly compiler, and
/// code without `unsafe` needs none.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

const SECONDS: u64 = 10;

/// Inputs are no longer than this, in bytes, and take no longer than this, in seconds.
const LIMITS: [&str; 2] = ["-max_len=4096", "-timeout=5"];

/// As much of what a target said is shown when it fails.
const SAID_LINES: usize = 100;

/// What libFuzzer says at its end of how many inputs there were.
const EXECUTED: &str = "stat::number_of_executed_units:";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let seconds = arguments.opt_value_from_str("--seconds")?.unwrap_or(SECONDS);
    let input: Option<PathBuf> = arguments.opt_value_from_str("--input")?;
    let mut targets = Vec::new();
    while let Some(target) = arguments.opt_free_from_str::<String>()? {
        targets.push(target);
    }
    help::reject_unknown(arguments, HELP)?;
    match (input, targets.as_slice()) {
        (Some(input), [target]) => again(target, &input)?,
        (Some(_), _) => bail!("an input is for one target\n\n{HELP}"),
        (None, _) => fuzz(seconds, &targets)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What CI runs: all of them for ten seconds each, with the lock file as it is.
pub(crate) fn check(tally: &mut TestTally) {
    match compiler() {
        Ok(()) => tally.check("everything that reads bytes (cargo xtask fuzz)", fuzz(SECONDS, &[])),
        Err(error) => tally.skipped.push(format!("cargo xtask fuzz: {error:#}")),
    }
}

/// Runs these targets, or all, as many at a time as there are cores, and says what came of it.
fn fuzz(seconds: u64, targets: &[String]) -> Result<()> {
    let known = known(targets)?;
    let programs = build()?;
    let wanted = Mutex::new(known.iter().filter(|target| targets.is_empty() || targets.contains(target)));
    let failures = Mutex::new(Vec::new());
    let next = || wanted.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    match fuzz_one(&programs, target, seconds) {
                        Ok(executed) => println!("{target:12} {executed:>10} inputs in {seconds} s"),
                        Err(error) => {
                            println!("{target:12} FAILED: {error:#}");
                            failures.lock().unwrap_or_else(PoisonError::into_inner).push(target.as_str());
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failures.is_empty(), "fuzz targets that failed: {}", failures.join(", "));
    Ok(())
}

/// Fuzzes for so long; how many inputs there were.
fn fuzz_one(programs: &Path, target: &str, seconds: u64) -> Result<u64> {
    let (corpus, found) =
        (workspace::kept_dir(&format!("fuzz/{target}"))?, workspace::kept_dir("fuzz-found")?);
    let (seeds, words) = (folder().join("seeds").join(target), folder().join("words").join(target));
    let mut command = Command::new(programs.join(target));
    command.arg(corpus).args(seeds.is_dir().then_some(seeds)).args(LIMITS).arg("-print_final_stats=1");
    command.args(words.is_file().then(|| format!("-dict={}", words.display())));
    let prefix = found.join(format!("{target}-"));
    command.arg(format!("-artifact_prefix={}", prefix.display())).arg(format!("-max_total_time={seconds}"));
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start it")?;
    let stderr = child.stderr.take().context("it has no stderr")?;
    let (mut executed, mut said, mut input) = (0, VecDeque::new(), None);
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        executed =
            line.strip_prefix(EXECUTED).and_then(|count| count.trim().parse().ok()).unwrap_or(executed);
        input = line.split_once("Test unit written to ").map(|(_, path)| path.to_owned()).or(input);
        // `#17 NEW …`: how it goes on.
        if !line.starts_with('#') {
            said.push_back(line);
            said.drain(..said.len().saturating_sub(SAID_LINES));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        said.iter().for_each(|line| eprintln!("{line}"));
        let input = input.context(format!("it ended with {status}, see above"))?;
        bail!("see above; once more with\n    cargo xtask fuzz --input {input} {target}");
    }
    ensure!(executed > 0, "it looked at no input");
    Ok(executed)
}

/// Shows `target` one input, with what it says to it.
fn again(target: &str, input: &Path) -> Result<()> {
    // The programs run in the folder that this one was started in.
    ensure!(input.is_file(), "there is no file {}", input.display());
    known(&[target.to_owned()])?;
    let mut command = Command::new(build()?.join(target));
    command.arg(input).args(LIMITS);
    cargo::run(command)
}

fn folder() -> PathBuf {
    workspace::root().join("host/fuzz")
}

/// The names of all targets; `wanted` have to be among them.
fn known(wanted: &[String]) -> Result<Vec<String>> {
    let files = fs::read_dir(folder().join("fuzz_targets")).context("cannot look for fuzz targets")?;
    let mut names = Vec::new();
    for file in files {
        names.extend(file?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    for name in wanted {
        ensure!(names.contains(name), "there is no fuzz target {name:?}, but there are {}", names.join(", "));
    }
    Ok(names)
}

/// Builds all of them; where they are.
fn build() -> Result<PathBuf> {
    compiler()?;
    let triple = host_triple()?;
    let target = workspace::root().join("target/fuzz");
    let mut command = Workspace::Root.cargo(&[
        "build",
        "--quiet",
        "--profile",
        "fuzz",
        "--locked",
        "--bins",
        "--target",
        &triple,
    ]);
    // With a target of its own, flags are not for build scripts.
    command.current_dir(folder()).env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &target);
    cargo::run(command).context(
        "the fuzz targets do not build (a lock file that is out of date: cp Cargo.lock host/fuzz/Cargo.lock && \
         cargo metadata --manifest-path host/fuzz/Cargo.toml >/dev/null)",
    )?;
    Ok(target.join(triple).join("fuzz"))
}

/// Is there a compiler for libFuzzer?
fn compiler() -> Result<()> {
    let name = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = Command::new(&name).arg("--version").output().is_ok_and(|output| output.status.success());
    ensure!(found, "there is no C++ compiler {}, which libFuzzer needs: apt install g++", name.display());
    Ok(())
}

fn host_triple() -> Result<String> {
    let output =
        Command::new("rustc").arg("-vV").current_dir(folder()).output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).context("rustc does not say for which machine it is")
}
