//! How many packets of a client are read in a second; what it sends beyond them waits. Messages are not among them: the
//! inbox and the number of unanswered ones bound those.

use std::time::Duration;

use tokio::time::Instant;

/// So many packets that are no messages are read from a client within [`SECOND`].
const PACKETS_MAX: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    packets: u32,
}

impl Pace {
    /// Of a client that has sent nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, packets: 0 }
    }

    /// One more packet, and whether it is the first that is too much.
    pub(super) fn packet(&mut self, now: Instant) -> bool {
        if now >= self.since + SECOND {
            *self = Self::new(now);
        }
        self.packets += 1;
        self.packets == PACKETS_MAX + 1
    }

    /// Until when nothing more is read.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        (self.packets > PACKETS_MAX).then(|| self.since + SECOND)
    }

    /// It has rested.
    pub(super) fn go_on(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}
