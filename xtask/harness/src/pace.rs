//! Devices sample at an even pace: is that what was counted?

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::host::HostProcess;

/// The current Unix second.
///
/// # Errors
/// When the system's clock is before 1970.
pub fn now_s() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Looks at what was counted between the second `from` and each one until `to`, where `rate` samples were taken each
/// second. `slack` are too many or too few at most, and 2 % of them.
///
/// # Errors
/// When the host does not answer, or some second has too many or too few.
pub fn check(api: &HostProcess, from: u64, to: u64, rate: u64, slack: u64) -> Result<()> {
    let mut by_second = Vec::new();
    for second in from + 1..=to {
        let counted = api.counts(from, second)?.total();
        by_second.push(counted - by_second.iter().sum::<u64>());
        let (seconds, taken) = (second - from, (second - from) * rate);
        ensure!(
            counted.abs_diff(taken) <= slack + taken / 50,
            "{counted} samples are counted in the {seconds} s before {second}, and {taken} were taken; by second: {by_second:?}"
        );
    }
    Ok(())
}
