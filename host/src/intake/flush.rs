//! Which messages are stored together. A closed inbox is emptied at once, and nobody waits longer than he is told.

use std::str::FromStr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::model::Message;

/// The most messages in one flush.
pub const FLUSH_MESSAGES: usize = 4096;

/// Under load the next flush waits so long for more messages, so that an entry is worth its fsync.
const LINGER: Duration = Duration::from_millis(2);

/// A flush of so many messages says that there is load; so many waiting ones say that waiting gains nothing. A
/// flush interval must not wait for more either: sources have bounds in flight, and at those nothing more comes
/// before a flush.
const LOAD_MESSAGES: usize = 16;
const ENOUGH_MESSAGES: usize = 256;

/// How long the first message of a flush waits for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushInterval(Duration);

/// What is no flush interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFlushInterval {
    /// It is not written as a time.
    #[error("write 0, 500ms or 1s")]
    NotATime,
    /// It would hold up acknowledgements for too long.
    #[error(
        "2s at most: acknowledgements wait for it, and a device gives up a connection after 10 s without one"
    )]
    TooLong,
}

impl FlushInterval {
    /// A fifth of what a device waits for an acknowledgement; the rest is the network's and the store's.
    pub const MAX: Duration = Duration::from_secs(2);
}

impl FromStr for FlushInterval {
    type Err = BadFlushInterval;

    fn from_str(text: &str) -> Result<Self, BadFlushInterval> {
        let interval = humantime::parse_duration(text).map_err(|_| BadFlushInterval::NotATime)?;
        if interval > Self::MAX { Err(BadFlushInterval::TooLong) } else { Ok(Self(interval)) }
    }
}

/// Waits for the messages of the next flush, or until rows are due, which is then without messages; false when
/// there will be no messages. `last` is how many the last flush had.
pub(super) async fn collect(
    inbox: &mut mpsc::Receiver<Message>,
    batch: &mut Vec<Message>,
    last: usize,
    interval: FlushInterval,
    rows_due_at: Option<Instant>,
) -> bool {
    let received = inbox.recv_many(batch, FLUSH_MESSAGES);
    let received = match rows_due_at {
        None => received.await,
        Some(due) => match timeout_at(due, received).await {
            Ok(received) => received,
            Err(_) => return true,
        },
    };
    if received == 0 {
        return false;
    }
    if !interval.0.is_zero() {
        gather(inbox, batch, interval.0).await;
    } else if last >= LOAD_MESSAGES && batch.len() < ENOUGH_MESSAGES {
        tokio::time::sleep(LINGER).await;
        while batch.len() < FLUSH_MESSAGES {
            let Ok(message) = inbox.try_recv() else { break };
            batch.push(message);
        }
    }
    true
}

/// Takes what comes within `time`, until it is enough or nothing more can come.
async fn gather(inbox: &mut mpsc::Receiver<Message>, batch: &mut Vec<Message>, time: Duration) {
    let deadline = Instant::now() + time;
    while batch.len() < ENOUGH_MESSAGES {
        let room = FLUSH_MESSAGES - batch.len();
        match timeout_at(deadline, inbox.recv_many(batch, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_up_to_two_seconds() {
        let parsed = |text: &str| text.parse::<FlushInterval>();
        for (text, ms) in
            [("0", 0), ("0s", 0), ("500ms", 500), ("1s", 1000), ("1s 500ms", 1500), ("2s", 2000)]
        {
            assert_eq!(parsed(text), Ok(FlushInterval(Duration::from_millis(ms))), "{text}");
        }
        for text in ["2001ms", "3s", "1h", "99999999999s"] {
            assert_eq!(parsed(text), Err(BadFlushInterval::TooLong), "{text}");
        }
        for text in ["", "1", "-1s", "s", "soon", "1x", "99999999999999999999s"] {
            assert_eq!(parsed(text), Err(BadFlushInterval::NotATime), "{text}");
        }
    }
}
