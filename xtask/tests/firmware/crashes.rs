//! A board that is told nonsense, one whose firmware crashes, and what would crash it: each run ends with a code that
//! tells.

use std::time::Duration;

use anyhow::Result;
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::emulator::{Emulator, EmulatorSettings};
use rollcall_harness::workspace;

use crate::machines::{Door, RunningBoard, can_emulate};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_word_that_makes_no_sense_is_named() -> Result<()> {
    if !can_emulate("a_word_that_makes_no_sense_is_named")? {
        return Ok(());
    }
    for board in EmulatedBoard::EMULATED {
        let machine = RunningBoard::start(board, &Door::plain("127.0.0.1:1883"), &["period_ms=soon"], &[])?;
        let (status, log) = machine.emulator.failure(LIMIT)?;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("period_ms=soon"), "{log}");
    }
    Ok(())
}

#[test]
fn a_panic_a_fault_and_a_stack_overflow_are_reported_and_end_the_run() -> Result<()> {
    if !can_emulate("a_panic_a_fault_and_a_stack_overflow_are_reported_and_end_the_run")? {
        return Ok(());
    }
    let board = EmulatedBoard::QemuLm3s6965;
    for (example, code, report) in [
        ("panic", 101, " at /device/boards/qemu-lm3s6965/examples/panic.rs:16"),
        ("fault", 102, "examples/fault.rs:15"),
        ("overflow", 102, "stack overflow: the stack pointer"),
    ] {
        let dir = workspace::temporary_dir()?;
        let settings =
            EmulatorSettings::new(board, &board.build_example(example)?, dir.path(), "127.0.0.1:1883");
        let (status, log) = Emulator::start(&settings)?.failure(LIMIT)?;
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(log.contains(report), "{log}");
    }
    Ok(())
}

#[test]
fn memory_is_copied_and_filled_at_every_alignment() -> Result<()> {
    if !can_emulate("memory_is_copied_and_filled_at_every_alignment")? {
        return Ok(());
    }
    let board = EmulatedBoard::QemuLm3s6965;
    let dir = workspace::temporary_dir()?;
    let settings =
        EmulatorSettings::new(board, &board.build_example("memory")?, dir.path(), "127.0.0.1:1883");
    let (status, log) = Emulator::start(&settings)?.failure(LIMIT)?;
    assert_eq!(status.code(), Some(0), "{log}");
    Ok(())
}
