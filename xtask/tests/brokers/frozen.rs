//! Something stands still for a while: what waited meanwhile is counted in the second in which it was taken.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use rollcall_harness::host::{HostProcess, Role};
use rollcall_harness::pace;
use rollcall_harness::process::Process;
use rustix::process::Signal;

use crate::setup::{RATE, TestSystem, check_at_rest, settle, wait_for_flow};

/// Longer than a device waits for an acknowledgement.
const FROZEN: Duration = Duration::from_secs(14);

/// Where RabbitMQ's whole second is all that is known of a wait, a sample may be one second off.
const SLACK: u64 = RATE + RATE / 4;

/// RabbitMQ's broker is a descendant of its first process.
fn freeze(process: &Process) -> Result<()> {
    process.signal_all(Signal::STOP)?;
    thread::sleep(FROZEN);
    process.signal_all(Signal::CONT)
}

#[test]
fn samples_that_a_frozen_ingest_did_not_read_are_counted_in_the_second_in_which_they_were_taken() -> Result<()>
{
    frozen(|_, ingest| freeze(ingest.process()))
}

#[test]
fn samples_that_a_frozen_broker_did_not_read_are_counted_in_the_second_in_which_they_were_taken() -> Result<()>
{
    frozen(|broker, _| freeze(broker))
}

fn frozen(freeze: impl Fn(&Process, &HostProcess) -> Result<()>) -> Result<()> {
    let Some(mut system) = TestSystem::new()? else { return Ok(()) };
    let (rabbitmq, mongod) = (system.rabbitmq()?, system.mongod()?);
    let ingest_settings = system.host("ingest", Role::Ingest, &rabbitmq.url(), &mongod.url("rollcall"))?;
    let api_settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let (ingest, api) = (HostProcess::start(&ingest_settings)?, HostProcess::start(&api_settings)?);
    let mut fleet = system.fleet(&rabbitmq.address())?;
    wait_for_flow(&api, &mut fleet)?;
    let from = pace::now_s()? + 2;
    thread::sleep(Duration::from_secs(4));
    freeze(rabbitmq.process(), &ingest)?;
    wait_for_flow(&api, &mut fleet)?;
    thread::sleep(Duration::from_secs(3));
    let to = pace::now_s()? - 2;
    let (_, counted) = settle(fleet, &api)?;
    pace::check(&api, from, to, RATE, SLACK)?;
    check_at_rest(ingest, api, &api_settings, &counted)
}
