//! Rollcall devices as a Linux process: one emitter a device, all on one thread.
//!
//! stdout carries one line, the totals as JSON, when the process ends; everything for humans is on stderr.

mod cli;
mod clock;
mod fleet;
mod limits;
mod logger;
mod report;
mod stop;
mod tap;
mod time_driver;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use async_executor::LocalExecutor;
use clap::Parser;
use rollcall_device::Clock;

use crate::cli::Args;
use crate::clock::ProcessClock;
use crate::fleet::Fleet;
use crate::report::Totals;
use crate::stop::{Signals, Stop};

/// How long the outboxes may take to drain once sampling has stopped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Exit status when samples were left in an outbox.
const EXIT_UNSENT: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    logger::init();
    match run(args) {
        Ok(totals) => {
            println!("{}", totals.to_json());
            if totals.outbox == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNSENT) }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<Totals> {
    let fleet = Fleet::new(args)?;
    let executor = LocalExecutor::new();
    async_io::block_on(executor.run(live(fleet, &executor)))
}

async fn live(fleet: Fleet, executor: &LocalExecutor<'_>) -> Result<Totals> {
    let signals = Signals::new()?;
    let clock = ProcessClock::new();
    let stop = Rc::new(Stop::default());
    let running = fleet.start(executor, clock, &stop)?;
    let progress = executor.spawn(running.progress());
    signals.wait_or(fleet.lifetime()).await?;
    progress.cancel().await;
    eprintln!("draining, for {} s at most; another signal ends it at once", DRAIN_TIMEOUT.as_secs());
    stop.request(clock.now_ms() + DRAIN_TIMEOUT.as_millis() as u64);
    Ok(running.finish().await)
}
