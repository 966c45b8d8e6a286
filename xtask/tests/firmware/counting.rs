//! Without faults: what the boards count and what the host counts, at one sample a second and at 200.

use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::workspace;

use crate::machines::{Door, RunningBoard, Site, can_emulate};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn each_board_boots_gets_an_address_publishes_and_agrees_with_the_host() -> Result<()> {
    if !can_emulate("each_board_boots_gets_an_address_publishes_and_agrees_with_the_host")? {
        return Ok(());
    }
    let mut site = Site::start(&["period_ms=50"])?;
    site.wait_for_flow(100, LIMIT)?;
    for machine in &site.machines {
        let log = machine.emulator.log()?;
        assert!(log.contains("address 10.0.2.15/24"), "{}: {log}", machine.board);
    }
    for report in site.finish()? {
        assert_eq!(report.totals.reconnects, 0);
        assert!(report.totals.sampled >= 20);
    }
    Ok(())
}

/// The MPS2 with the AN386 image differs from the AN385 in its processor alone.
#[test]
fn the_image_for_the_mps2_runs_on_its_cortex_m4_too() -> Result<()> {
    if !can_emulate("the_image_for_the_mps2_runs_on_its_cortex_m4_too")? {
        return Ok(());
    }
    let dir = workspace::temporary_dir()?;
    let host = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let host = HostProcess::start(&host)?;
    let words = ["period_ms=20", "seconds=2"];
    let machine = RunningBoard::start(
        EmulatedBoard::QemuMps2,
        &Door::plain(&host.broker()),
        &words,
        &["-M", "mps2-an386"],
    )?;
    let report = machine.emulator.finish(LIMIT)?;
    assert!(report.totals.sampled >= 90, "only {} samples", report.totals.sampled);
    assert_eq!(report.totals.acknowledged.total(), report.totals.sampled);
    assert_eq!(host.all_counts()?, report.totals.acknowledged);
    host.stop()
}

#[test]
fn an_address_may_be_static() -> Result<()> {
    if !can_emulate("an_address_may_be_static")? {
        return Ok(());
    }
    let words = ["period_ms=50", "address=10.0.2.77/24", "gateway=10.0.2.2"];
    let mut site = Site::start(&words)?;
    site.wait_for_flow(20, LIMIT)?;
    assert!(site.machines[0].emulator.log()?.contains("address 10.0.2.77/24"));
    site.finish().map(drop)
}

#[test]
fn two_hundred_samples_a_second_for_twenty_seconds_are_all_counted() -> Result<()> {
    if !can_emulate("two_hundred_samples_a_second_for_twenty_seconds_are_all_counted")? {
        return Ok(());
    }
    // One board at a time: two of them and a host are more than two cores.
    for board in EmulatedBoard::EMULATED {
        let dir = workspace::temporary_dir()?;
        let host = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
        let host = HostProcess::start(&host)?;
        let machine =
            RunningBoard::start(board, &Door::plain(&host.broker()), &["period_ms=5", "seconds=20"], &[])?;
        let report = machine.emulator.finish(LIMIT)?;
        println!("{board}: {report:?}");
        assert_eq!(report.totals.dropped, 0);
        assert_eq!(report.totals.acknowledged.total(), report.totals.sampled);
        assert_eq!(host.all_counts()?, report.totals.acknowledged);
        // A late sample is not caught up on a machine that was busy; the rest were taken.
        assert!(report.totals.sampled >= 3_900, "only {} samples", report.totals.sampled);
        host.stop()?;
    }
    Ok(())
}

/// A handshake is some 37 million instructions. With `-icount` each takes as long as on a processor of the machine's
/// clock, here 64 ns at 12.5 MHz and 32 ns at 25 MHz, whatever this computer can do.
#[test]
fn no_sample_is_missed_during_a_handshake_at_two_hundred_a_second() -> Result<()> {
    if !can_emulate("no_sample_is_missed_during_a_handshake_at_two_hundred_a_second")? {
        return Ok(());
    }
    for (board, shift, handshake_ms) in
        [(EmulatedBoard::QemuLm3s6965, "shift=6", 2_000), (EmulatedBoard::QemuMps2, "shift=5", 1_000)]
    {
        let dir = workspace::temporary_dir()?;
        let mut host = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
        let [_, door] = Door::both(&mut host, dir.path())?;
        let host = HostProcess::start(&host)?;
        let words = ["period_ms=5", "seconds=5"];
        let machine = RunningBoard::start(board, &door, &words, &["-icount", shift])?;
        let report = machine.emulator.finish(LIMIT)?;
        println!("{board}: {report:?}");
        let first = report.first_acknowledged_ms.context("nothing was acknowledged")?;
        assert!(first >= handshake_ms, "{first} ms to the first PUBACK is too little for a handshake");
        assert_eq!((report.missed, report.totals.sampled), (0, 1_000));
        // An outbox has room for 300; the oldest give way, and are counted.
        assert_eq!(report.totals.acknowledged.total() + report.totals.dropped, 1_000);
        assert_eq!(host.all_counts()?, report.totals.acknowledged);
        host.stop()?;
    }
    Ok(())
}

/// Ten minutes of virtual time, the clock's 32-bit millisecond wrap in the middle of them. With `sleep=off` the
/// emulator leaps over what the machine sleeps, so that they pass within a minute.
#[test]
fn ten_minutes_across_the_32_bit_wrap_of_the_milliseconds_lose_nothing() -> Result<()> {
    if !can_emulate("ten_minutes_across_the_32_bit_wrap_of_the_milliseconds_lose_nothing")? {
        return Ok(());
    }
    let start = format!("start_ms={}", (1_u64 << 32) - 300_000);
    for board in EmulatedBoard::EMULATED {
        let dir = workspace::temporary_dir()?;
        let host = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
        let host = HostProcess::start(&host)?;
        let words = ["seconds=600", &start];
        let machine = RunningBoard::start(
            board,
            &Door::plain(&host.broker()),
            &words,
            &["-icount", "shift=6,sleep=off"],
        )?;
        let report = machine.emulator.finish(5 * LIMIT)?;
        println!("{board}: {report:?}");
        assert!(report.uptime_ms >= 600_000);
        assert_eq!(report.totals.sampled, 600);
        assert_eq!(report.totals.acknowledged.total(), report.totals.sampled);
        assert_eq!(host.all_counts()?, report.totals.acknowledged);
        host.stop()?;
    }
    Ok(())
}
