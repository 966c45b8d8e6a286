//! Adds up what Rust's test harness prints, and checks beside it.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What all tests together came to.
#[derive(Debug)]
pub(crate) struct TestTally {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Tests that failed.
    pub(crate) failed: usize,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    /// What they printed, by the harness's own lines, so that the end of a long output says why.
    pub(crate) reasons: Vec<String>,
    /// The lines that are read now are what a failed test printed.
    in_reasons: bool,
    /// Those that did not run, each with the reason.
    pub(crate) skipped: Vec<String>,
    /// How long each check took, and what else was told by [`TestTally::took`].
    pub(crate) times: Vec<(String, Duration)>,
    /// When the last of them had ended.
    since: Instant,
}

impl TestTally {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            passed: 0,
            failed: 0,
            failures: Vec::new(),
            reasons: Vec::new(),
            in_reasons: false,
            skipped: Vec::new(),
            times: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Reads one line that a test binary printed.
    pub(crate) fn read(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.in_reasons = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.in_reasons = false;
        }
        if self.in_reasons {
            self.reasons.push(line.to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += number_before(counts, " passed");
            self.failed += number_before(counts, " failed");
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|l| l.rsplit_once(" ... "))
        {
            match outcome.split_once(", ").unwrap_or((outcome, "marked as ignored")) {
                ("ignored", reason) => self.skipped.push(format!("{name}: {reason}")),
                ("FAILED", _) => self.failures.push(name.to_owned()),
                _ => {}
            }
        }
    }

    /// Counts something that is checked without the harness.
    pub(crate) fn check(&mut self, name: &str, outcome: Result<()>) {
        self.took(name);
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => self.fail(format!("{name}: {error:#}")),
        }
    }

    /// All since the last call, or since it began, was this.
    pub(crate) fn took(&mut self, name: &str) {
        let now = Instant::now();
        self.times.push((name.to_owned(), now - self.since));
        self.since = now;
    }

    /// Counts a failure that no harness counted.
    pub(crate) fn fail(&mut self, name: String) {
        self.failed += 1;
        self.failures.push(name);
    }
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::TestTally;

    #[test]
    fn the_harness_lines_are_added_up() {
        let mut tally = TestTally::new();
        for line in [
            "running 4 tests",
            "test codec::a_status_is_read ... ok",
            "test codec::golden ... FAILED",
            "test slow ... ignored, takes an hour",
            "test bare ... ignored",
            "failures:",
            "---- codec::golden stdout ----",
            "test of mine ... FAILED",
            "failures:",
            "    codec::golden",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.passed, 41);
        assert_eq!(tally.failed, 1);
        assert_eq!(tally.failures, ["codec::golden"]);
        assert_eq!(tally.reasons, ["---- codec::golden stdout ----", "test of mine ... FAILED"]);
        assert_eq!(tally.skipped, ["slow: takes an hour", "bare: marked as ignored"]);
    }
}
