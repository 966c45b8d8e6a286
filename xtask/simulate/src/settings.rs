//! What is asked for, and what the seed says of the parts of the system and of how they are in good times.

use std::collections::BTreeSet;

use rollcall_host::model::UnixMs;

use crate::chance::Chance;
use crate::faults::{Scenario, faulty_ms};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// How many devices there are.
    pub devices: u64,
    /// For how long they take samples, in milliseconds.
    pub run_ms: u64,
    /// When sampling stops before that, in milliseconds.
    pub stop_at_ms: Option<u64>,
    /// Which faults may come.
    pub scenario: Scenario,
    /// The faults that come, by their places in the schedule; `None` is all.
    pub faults: Option<BTreeSet<usize>>,
    /// The devices that are switched on; `None` is all.
    pub only: Option<BTreeSet<u64>>,
    /// Are the lines of the trace kept?
    pub keep_trace: bool,
}

impl Settings {
    /// The default size for a seed: 20 devices for two minutes.
    pub fn of(seed: u64) -> Self {
        let (stop_at_ms, scenario, faults, only, keep_trace) = Default::default();
        Self { seed, devices: 20, run_ms: 120_000, stop_at_ms, scenario, faults, only, keep_trace }
    }

    /// When sampling stops.
    pub(crate) fn end_ms(&self) -> u64 {
        self.stop_at_ms.map_or(self.run_ms, |stop_at_ms| stop_at_ms.min(self.run_ms))
    }

    /// When the last fault has come.
    pub(crate) fn faulty_ms(&self) -> u64 {
        faulty_ms(self.run_ms).min(self.end_ms())
    }

    /// Is this device switched on?
    pub(crate) fn has_device(&self, number: u64) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&number))
    }
}

/// Who takes the devices' connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The host's own gateway.
    Gateway,
    /// A broker, from which the host takes what it holds.
    Broker,
}

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In a store that outlives the host.
    Memory,
    /// In the embedded one.
    Redb,
}

/// What the seed says of the parts.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) peer: Peer,
    pub(crate) storage: Storage,
    /// What the host's clock says at the start.
    pub(crate) start: UnixMs,
    /// What a flush waits for.
    pub(crate) flush_interval: &'static str,
    /// How long bytes take on the way.
    pub(crate) delay_ms: (u64, u64),
    /// Do writes arrive in pieces?
    pub(crate) is_choppy: bool,
    /// Do all devices take their samples at the same moments?
    pub(crate) in_step: bool,
    /// How long a call of the store takes, before and after its work, at most.
    pub(crate) store_delay_ms: u64,
    /// How many deliveries of the broker may be unacknowledged.
    pub(crate) prefetch: usize,
    /// Does the broker round what is left of a message's life down, rather than how long it has waited?
    pub(crate) rounds_up_waits: bool,
}

impl Parts {
    pub(crate) fn draw(seed: u64) -> Self {
        let chance = &mut Chance::new(seed, "parts", 0);
        // So that a run lies across the end of a minute, and some across that of an hour or a day.
        let boundary = 1_700_006_400_000 + chance.pick(&[0, 60_000, 3_600_000]) * chance.within(1, 20);
        let flush_interval = chance.pick(&["0", "0", "0", "100ms", "1s", "2s"]);
        let delay_ms = chance.pick(&[(0, 0), (1, 5), (5, 50), (20, 400)]);
        let store_delay_ms = chance.pick(&[0, 2, 10, 60]);
        // Few deliveries at a time are enough where each is done with at once.
        let is_quick = flush_interval == "0" && delay_ms.1 <= 5 && store_delay_ms <= 2;
        let prefetch = if is_quick { chance.pick(&[1, 10, 1_000]) } else { 1_000 };
        Self {
            peer: chance.pick(&[Peer::Gateway, Peer::Gateway, Peer::Broker]),
            storage: chance.pick(&[Storage::Memory, Storage::Redb]),
            start: UnixMs(boundary - chance.within(0, 60_000)),
            flush_interval,
            delay_ms,
            is_choppy: chance.percent(10),
            in_step: chance.percent(20),
            store_delay_ms,
            prefetch,
            rounds_up_waits: chance.percent(50),
        }
    }
}
