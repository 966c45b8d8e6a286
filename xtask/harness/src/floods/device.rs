//! The device among the others: it publishes ten samples a second, and comes anew twice a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Target;
use crate::mqtt::{self, ConnectPacket, Connection, PUBACK, Version};

/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

const PUBLISH_EVERY: Duration = Duration::from_millis(100);

const ARRIVE_EVERY: Duration = Duration::from_millis(500);

/// How a host served it: how long each took.
#[derive(Clone, Debug)]
pub struct Served {
    /// From the connection's begin to the CONNACK.
    pub connects: Vec<Duration>,
    /// From the PUBLISH to its PUBACK: as many samples are stored.
    pub publishes: Vec<Duration>,
}

/// This part of all took no longer, in milliseconds; 0 if there were none.
pub fn percentile_ms(times: &[Duration], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len().saturating_sub(1) as f64 * part) as usize;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

pub(super) fn connect(target: &Target, id: &str) -> Result<Connection> {
    let mut connection = Connection::open(target.mqtt, PATIENCE)?;
    let login = Some((target.login.0.as_str(), target.login.1.as_str()));
    connection.connect(&ConnectPacket { login, ..ConnectPacket::new(Version::V5, id) })?;
    Ok(connection)
}

/// Publishes until it is `over`, and at least once.
pub(super) fn publish(
    mut connection: Connection,
    target: &Target,
    over: &AtomicBool,
) -> Result<Vec<Duration>> {
    let packet = mqtt::publish(Version::V5, 7, &target.topic, br#"{"status":3}"#, None);
    every(PUBLISH_EVERY, over, || {
        connection.send(&packet)?;
        let answer = connection.receive()?;
        let stored = answer.as_ref().is_some_and(|answer| (answer.kind(), answer.reason()) == (PUBACK, 0));
        ensure!(stored, "the host answered a sample with {answer:02x?}");
        Ok(())
    })
}

/// Comes and leaves until it is `over`, and at least once.
pub(super) fn arrive(target: &Target, over: &AtomicBool) -> Result<Vec<Duration>> {
    every(ARRIVE_EVERY, over, || connect(target, "arriving").map(drop))
}

/// Does it once in each `pause`, or as often as there is time; how long each time took.
fn every(pause: Duration, over: &AtomicBool, mut act: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        act()?;
        times.push(start.elapsed());
        if over.load(Ordering::Relaxed) {
            return Ok(times);
        }
        thread::sleep(pause.saturating_sub(start.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_the_last_but_one_is_the_99th_percentile() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| percentile_ms(&times, part)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(percentile_ms(&[], 0.99), 0.0);
    }
}
