//! The demo's live display: a table redrawn in place on a terminal, one line a time anywhere else.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stdout};
use std::time::Duration;

use anyhow::Result;
use rollcall_harness::counts::StatusCounts;

/// The rate is that of the last few seconds: long enough to be steady, short enough to follow a change.
const RATE_OVER: Duration = Duration::from_secs(5);

/// The width of the longest bar.
const BAR: u64 = 30;

/// What was shown so far.
pub(crate) struct Scoreboard {
    on_terminal: bool,
    history: VecDeque<(Duration, StatusCounts)>,
    lines: usize,
}

impl Scoreboard {
    pub(crate) fn new() -> Self {
        Self { on_terminal: stdout().is_terminal(), history: VecDeque::new(), lines: 0 }
    }

    /// Shows `counts`, read `after` the start.
    pub(crate) fn show(&mut self, after: Duration, counts: StatusCounts) -> Result<()> {
        self.history.push_back((after, counts));
        while self.history.front().is_some_and(|(then, _)| *then + RATE_OVER < after) {
            self.history.pop_front();
        }
        let text = if self.on_terminal { self.table(after, &counts) } else { self.line(after, &counts) };
        let mut out = stdout().lock();
        if self.on_terminal && self.lines > 0 {
            // Back to the table's first line, and clear from there.
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = text.lines().count();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    fn line(&self, after: Duration, counts: &StatusCounts) -> String {
        let rate = self.rate(counts.total(), StatusCounts::total);
        format!("{:>4} s  {:>8} counted  {rate:>7.1}/s  {counts}\n", after.as_secs(), counts.total())
    }

    fn table(&self, after: Duration, counts: &StatusCounts) -> String {
        let mut table = String::from("  status       counted   per second\n");
        let most = counts.0.iter().copied().max().unwrap_or(0).max(1);
        for (status, count) in counts.0.iter().enumerate() {
            let rate = self.rate(*count, |then| then.0[status]);
            let bar = "█".repeat((count * BAR / most) as usize);
            // Writing to a String cannot fail.
            let _ = writeln!(table, "  {status:<6}  {count:>12}   {rate:>10.1}   {bar}");
        }
        let rate = self.rate(counts.total(), StatusCounts::total);
        let _ =
            writeln!(table, "  total   {:>12}   {rate:>10.1}   after {} s", counts.total(), after.as_secs());
        table
    }

    fn rate(&self, now: u64, of: impl Fn(&StatusCounts) -> u64) -> f64 {
        match (self.history.front(), self.history.back()) {
            (Some((first, then)), Some((last, _))) if last > first => {
                now.saturating_sub(of(then)) as f64 / (*last - *first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}
