//! Who has tried a wrong password, and how often: after some times it is not heard for a minute.
//!
//! By address and user name, so that a device with a wrong password does not shut out those behind the same address.
//! What is kept is bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::door::Peer;

/// How often a wrong password may be tried within [`MEMORY`].
const FAILURES_MAX: u32 = 10;

/// How long a failure is remembered, and how long nothing is heard after too many.
const MEMORY: Duration = Duration::from_secs(60);

/// How many are remembered. Beyond it no further ones are, until some are forgotten: each of their attempts still
/// takes its delay.
const REMEMBERED_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct FailedLogins {
    failures: Mutex<HashMap<u64, Failures>>,
    /// A user name may be long, and its hash is not. Its key is random: nobody can be made to share another's.
    hasher: RandomState,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    forgotten_at: Instant,
}

/// Somebody who wants to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor(u64);

impl FailedLogins {
    /// Who comes from `address` by the name `user`.
    pub fn visitor(&self, address: IpAddr, user: Option<&[u8]>) -> Visitor {
        Visitor(self.hasher.hash_one((Peer::from(address), user)))
    }

    /// Has it failed so often that it is not heard now?
    pub fn shuts_out(&self, visitor: Visitor, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(&visitor.0)
            .is_some_and(|failed| failed.count >= FAILURES_MAX && now < failed.forgotten_at)
    }

    /// It has shown a wrong password.
    pub fn failed(&self, visitor: Visitor, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= REMEMBERED_MAX {
            failures.retain(|_, failed| now < failed.forgotten_at);
        }
        if failures.len() >= REMEMBERED_MAX && !failures.contains_key(&visitor.0) {
            return;
        }
        let first = Failures { count: 0, forgotten_at: now + MEMORY };
        let failed = failures.entry(visitor.0).or_insert(first);
        if failed.forgotten_at <= now {
            *failed = Failures { count: 0, forgotten_at: now + MEMORY };
        }
        failed.count += 1;
        if failed.count == FAILURES_MAX {
            failed.forgotten_at = now + MEMORY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn after_ten_failures_nothing_is_heard_for_a_minute_and_then_it_is_again() {
        let logins = FailedLogins::default();
        let (visitor, start) = (logins.visitor(ADDRESS, Some(b"fleet")), Instant::now());
        for failure in 0..FAILURES_MAX {
            assert!(!logins.shuts_out(visitor, start), "{failure}");
            logins.failed(visitor, start);
        }
        assert!(logins.shuts_out(visitor, start + MEMORY - Duration::from_millis(1)));
        assert!(!logins.shuts_out(visitor, start + MEMORY));
        logins.failed(visitor, start + MEMORY);
        assert!(!logins.shuts_out(visitor, start + MEMORY), "the first of ten again");
    }

    #[test]
    fn who_fails_seldom_is_heard_always() {
        let logins = FailedLogins::default();
        let (visitor, start) = (logins.visitor(ADDRESS, None), Instant::now());
        for minute in 0..100 {
            let now = start + MEMORY * minute;
            assert!(!logins.shuts_out(visitor, now));
            (1..FAILURES_MAX).for_each(|_| logins.failed(visitor, now));
        }
    }

    #[test]
    fn another_name_or_address_is_another_visitor() {
        let logins = FailedLogins::default();
        let (visitor, now) = (logins.visitor(ADDRESS, Some(b"a")), Instant::now());
        (0..FAILURES_MAX).for_each(|_| logins.failed(visitor, now));
        assert!(logins.shuts_out(visitor, now));
        assert!(!logins.shuts_out(logins.visitor(ADDRESS, Some(b"b")), now));
        assert!(!logins.shuts_out(logins.visitor([192, 0, 2, 1].into(), Some(b"a")), now));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let logins = FailedLogins::default();
        let now = Instant::now();
        for user in 0..REMEMBERED_MAX as u64 + 1_000 {
            logins.failed(logins.visitor(ADDRESS, Some(&user.to_le_bytes())), now);
        }
        assert_eq!(logins.failures.lock().unwrap().len(), REMEMBERED_MAX);
        logins.failed(logins.visitor(ADDRESS, None), now + MEMORY);
        assert_eq!(logins.failures.lock().unwrap().len(), 1);
    }
}
