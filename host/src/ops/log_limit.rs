//! How often what has one name is logged: a line a minute. How often it happened is a counter's business.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often what has one name is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// When each name was logged last. Names are few and fixed: none comes from a message.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<BTreeMap<&'static str, Instant>>);

impl LogLimit {
    /// Is `name` to be logged now? If so, it is not for a minute.
    pub(super) fn allows(&self, name: &'static str, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(name).is_some_and(|last| now.duration_since(*last) < LOG_EVERY) {
            return false;
        }
        logged.insert(name, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_logged_once_a_minute() {
        let limit = LogLimit::default();
        let start = Instant::now();
        assert!(limit.allows("bad_json", start));
        assert!(!limit.allows("bad_json", start + LOG_EVERY / 2));
        assert!(limit.allows("too_long", start + LOG_EVERY / 2));
        assert!(limit.allows("bad_json", start + LOG_EVERY));
    }
}
