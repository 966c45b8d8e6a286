//! The boards at a real RabbitMQ, from which the host takes what they published.

use std::time::Duration;

use anyhow::Result;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::services::Rabbitmq;
use rollcall_harness::{wait, workspace};

use crate::machines::{Door, RunningBoard, can_emulate};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_the_boards_publish_to_rabbitmq_is_counted_once() -> Result<()> {
    if !can_emulate("what_the_boards_publish_to_rabbitmq_is_counted_once")? {
        return Ok(());
    }
    let dir = workspace::temporary_dir()?;
    let rabbitmq = Rabbitmq::start(dir.path())?;
    let mut settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    settings.broker = Some(format!("mqtt://{}", rabbitmq.address()));
    let host = HostProcess::start(&settings)?;
    let mut machines = Vec::new();
    for board in EmulatedBoard::EMULATED {
        machines.push(RunningBoard::start(
            board,
            &Door::plain(&rabbitmq.address()),
            &["period_ms=50", "seconds=10"],
            &[],
        )?);
    }
    let mut acknowledged = StatusCounts::default();
    for machine in machines {
        let report = machine.emulator.finish(LIMIT)?;
        println!("{}: {report:?}", machine.board);
        assert_eq!(report.totals.acknowledged.total(), report.totals.sampled);
        assert!(report.totals.sampled >= 190);
        acknowledged += report.totals.acknowledged;
    }
    // RabbitMQ acknowledges what it has stored itself, so the host may still be on its way.
    wait::until("the host to count it all", LIMIT, || {
        Ok((host.all_counts()?.total() >= acknowledged.total()).then_some(()))
    })?;
    assert_eq!(host.all_counts()?, acknowledged);
    host.stop()
}
