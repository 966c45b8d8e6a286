//! A board that is told nonsense, and a board whose firmware crashes: each says so and ends with a code of its own.

use std::time::Duration;

use anyhow::Result;
use xtask::firmware::Board;

use crate::machines::{Machine, can_emulate};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_word_that_makes_no_sense_is_named() -> Result<()> {
    if !can_emulate("a_word_that_makes_no_sense_is_named")? {
        return Ok(());
    }
    for board in Board::EMULATED {
        let machine = Machine::start(board, "127.0.0.1:1883", &["period_ms=soon"], &[])?;
        let (status, log) = machine.emulator.failure(LIMIT)?;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("period_ms=soon"), "{log}");
    }
    Ok(())
}
