//! How often something happened, by name, for the log: a line a minute and name, with the total.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often what has one name is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Counts messages that are not stored, by the name of the reason, and says when one is due in the log.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<&'static str, Count>);

#[derive(Debug, Default)]
struct Count {
    total: u64,
    logged: Option<Instant>,
}

impl Tally {
    /// Counts one; the total of its name when it is to be logged now.
    pub fn count(&mut self, name: &'static str, now: Instant) -> Option<u64> {
        let count = self.0.entry(name).or_default();
        count.total += 1;
        if count.logged.is_some_and(|logged| now.duration_since(logged) < LOG_EVERY) {
            return None;
        }
        count.logged = Some(now);
        Some(count.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_logged_once_a_minute_with_the_total() {
        let mut tally = Tally::default();
        let start = Instant::now();
        assert_eq!(tally.count("bad_json", start), Some(1));
        assert_eq!(tally.count("bad_json", start + LOG_EVERY / 2), None);
        assert_eq!(tally.count("too_long", start + LOG_EVERY / 2), Some(1));
        assert_eq!(tally.count("bad_json", start + LOG_EVERY), Some(3));
    }
}
