//! The schedule of a run: which fault comes when. All of it is drawn from the seed beforehand, so that a part of it
//! can be left out and the rest stays as it was.

use std::fmt;

use crate::chance::Chance;
use crate::disk::{Left, Trouble};
use crate::settings::{Parts, Peer, Settings, Storage};
use crate::store::{Call, Mishap};

/// A fault, with all that is to be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub(crate) What);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Link(u64, LinkFault),
    Device(u64, DeviceFault),
    /// Messages are handed on twice: at once, or much later.
    Duplicates {
        ms: u64,
        is_late: bool,
    },
    Host(HostFault),
    Store {
        call: Call,
        mishap: Mishap,
        times: u64,
    },
    SlowStore {
        ms: u64,
        more_ms: u64,
    },
    Disk {
        operations: u64,
        trouble: Trouble,
        left: Left,
        ms: u64,
    },
    /// A bit flips while the host is stopped.
    BitFlip,
    Clock(ClockFault),
    Broker(BrokerFault),
    Hostile(HostileFault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkFault {
    Cut,
    HalfOpen,
    Refuse {
        ms: u64,
    },
    Silence {
        ms: u64,
    },
    Slow {
        ms: u64,
        more_ms: u64,
    },
    /// The lines of all devices are cut.
    CutAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceFault {
    Reset {
        off_ms: u64,
    },
    /// It is reset again and again.
    BootLoop {
        times: u64,
        every_ms: u64,
    },
    Freeze {
        ms: u64,
    },
    /// The power goes in the middle of what is written to flash.
    PowerCut {
        words: u64,
        off_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostFault {
    Kill {
        restart_ms: u64,
    },
    PowerLoss {
        restart_ms: u64,
    },
    Freeze {
        ms: u64,
    },
    /// It is stopped as an operator does, and started again.
    Restart {
        restart_ms: u64,
    },
    /// Another process writes the same slots.
    SecondWorker {
        ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockFault {
    Step { ms: i64 },
    Freeze { ms: u64 },
    Drift { ppm: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerFault {
    Kill {
        restart_ms: u64,
    },
    Freeze {
        ms: u64,
    },
    /// Publishes are refused for now.
    Refuse {
        ms: u64,
    },
    /// What is not acknowledged is delivered again, after what is newer.
    Redeliver {
        late_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostileFault {
    /// Samples of boots that a device never had.
    Boots { device: u64, count: u64 },
    /// Numbers of a device's own boot that it has not reached.
    Sequences { device: u64, count: u64 },
    /// What is no message of Rollcall's.
    Garbage { count: u64 },
    /// Messages without an identity.
    Bare { count: u64 },
}

/// What may be asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scenario {
    /// Whatever the seed says.
    #[default]
    All,
    /// No faults.
    Calm,
    /// One area of faults alone.
    Only(Area),
}

/// An area of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Links between devices and whoever takes their connections.
    Network,
    /// Resets, freezes and power cuts of devices.
    Devices,
    /// Kills, freezes and restarts of the host, and a second worker.
    Hosts,
    /// Calls of the store that fail, hang, or lose their answers.
    Stores,
    /// The disk of the embedded store.
    Disks,
    /// The host's wall clock.
    Clocks,
    /// The broker, and messages that come twice.
    Brokers,
    /// Clients that are no devices.
    Hostile,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Network,
        Self::Devices,
        Self::Hosts,
        Self::Stores,
        Self::Disks,
        Self::Clocks,
        Self::Brokers,
        Self::Hostile,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Devices => "devices",
            Self::Hosts => "hosts",
            Self::Stores => "stores",
            Self::Disks => "disks",
            Self::Clocks => "clocks",
            Self::Brokers => "brokers",
            Self::Hostile => "hostile",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Calm => "calm",
            Self::Only(area) => area.name(),
        })
    }
}

impl std::str::FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "calm" => Ok(Self::Calm),
            _ => {
                let area = Area::ALL.into_iter().find(|area| area.name() == text);
                area.map(Self::Only).ok_or_else(|| {
                    let names = Area::ALL.map(Area::name).join(", ");
                    format!("there is no scenario {text:?}: write all, calm, {names}")
                })
            }
        }
    }
}

/// When faults come: in the first three quarters of a run.
pub(crate) fn faulty_ms(run_ms: u64) -> u64 {
    run_ms / 4 * 3
}

/// Draws a run's faults, in the order in which they come.
pub(crate) fn draw(settings: &Settings, parts: &Parts) -> Vec<(u64, Fault)> {
    let chance = &mut Chance::new(settings.seed, "faults", 0);
    // A few areas at a time: faults of one kind hide those of another when all are there always.
    let areas: Vec<Area> = match settings.scenario {
        Scenario::Calm => Vec::new(),
        Scenario::Only(area) => vec![area],
        Scenario::All => {
            let percent = chance.pick(&[15, 30, 60, 100]);
            Area::ALL.into_iter().filter(|_| chance.percent(percent)).collect()
        }
    };
    let most = chance.pick(&[2, 8, 25, 60]) * settings.run_ms / 120_000;
    let count = if areas.is_empty() { 0 } else { chance.within(1, most.max(1)) };
    let mut faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| {
            let at_ms = chance.below(faulty_ms(settings.run_ms));
            let area = chance.pick(&areas);
            (at_ms, Fault(what(area, settings, parts, chance)))
        })
        .collect();
    faults.sort_by_key(|(at_ms, _)| *at_ms);
    faults
}

fn what(area: Area, settings: &Settings, parts: &Parts, chance: &mut Chance) -> What {
    let device = chance.below(settings.devices);
    let ms = |chance: &mut Chance| chance.pick(&[50, 1_000, 5_000, 20_000]) + chance.below(1_000);
    match area {
        Area::Network => {
            let fault = match chance.below(8) {
                0..2 => LinkFault::Cut,
                2..4 => LinkFault::HalfOpen,
                4 => LinkFault::Refuse { ms: ms(chance) },
                5 => LinkFault::Silence { ms: ms(chance) },
                6 => LinkFault::Slow { ms: ms(chance), more_ms: chance.pick(&[100, 2_000, 12_000]) },
                _ => LinkFault::CutAll,
            };
            What::Link(device, fault)
        }
        Area::Devices => {
            let off_ms = ms(chance);
            let fault = match chance.below(6) {
                0..2 => DeviceFault::Reset { off_ms },
                2 => {
                    DeviceFault::BootLoop { times: chance.within(2, 24), every_ms: chance.within(300, 3_000) }
                }
                3 => DeviceFault::Freeze { ms: off_ms },
                _ => DeviceFault::PowerCut { words: chance.below(200), off_ms },
            };
            What::Device(device, fault)
        }
        Area::Hosts => What::Host(host_fault(chance)),
        Area::Stores => store_fault(chance),
        Area::Disks if parts.storage == Storage::Redb => disk_fault(chance),
        Area::Disks => store_fault(chance),
        Area::Clocks => What::Clock(match chance.below(4) {
            0 => ClockFault::Step { ms: -(chance.pick(&[700, 30_000, 86_400_000]) as i64) },
            1 => ClockFault::Step { ms: chance.pick(&[700, 30_000, 3_600_000, 3_456_000_000_u64]) as i64 },
            2 => ClockFault::Freeze { ms: ms(chance) },
            _ => ClockFault::Drift { ppm: chance.within(0, 40_000) as i64 - 20_000 },
        }),
        Area::Brokers => match (parts.peer, chance.below(8)) {
            (_, 0) => What::Duplicates { ms: ms(chance), is_late: false },
            (_, 1..3) | (Peer::Gateway, _) => What::Duplicates { ms: ms(chance), is_late: true },
            (Peer::Broker, 3) => What::Broker(BrokerFault::Kill { restart_ms: ms(chance) }),
            (Peer::Broker, 4) => What::Broker(BrokerFault::Freeze { ms: ms(chance) }),
            (Peer::Broker, 5) => What::Broker(BrokerFault::Refuse { ms: ms(chance) }),
            (Peer::Broker, _) => What::Broker(BrokerFault::Redeliver { late_ms: chance.within(1, 20_000) }),
        },
        Area::Hostile => What::Hostile(match chance.below(6) {
            0..2 => HostileFault::Boots { device, count: chance.within(1, 40) },
            2 => HostileFault::Sequences { device, count: chance.pick(&[1, 5, 1_100]) },
            3 => HostileFault::Garbage { count: chance.within(1, 30) },
            _ => HostileFault::Bare { count: chance.within(1, 200) },
        }),
    }
}

fn host_fault(chance: &mut Chance) -> HostFault {
    let restart_ms = chance.pick(&[1, 1_000, 15_000]);
    match chance.below(6) {
        0 => HostFault::Kill { restart_ms },
        1 => HostFault::PowerLoss { restart_ms },
        2 => HostFault::Freeze { ms: chance.pick(&[500, 14_000, 30_000]) },
        3 => HostFault::Restart { restart_ms },
        _ => HostFault::SecondWorker { ms: chance.within(500, 30_000) },
    }
}

fn store_fault(chance: &mut Chance) -> What {
    let call = chance.pick(&[Call::Append, Call::Append, Call::Append, Call::Read, Call::Roll, Call::Rows]);
    let mishap = match (call, chance.below(7)) {
        (_, 0) => {
            return What::SlowStore { ms: chance.within(500, 10_000), more_ms: chance.pick(&[50, 1_000]) };
        }
        (Call::Append, 1) => Mishap::Tear,
        (_, 1..3) => Mishap::LoseReply,
        (_, 3) => Mishap::DieBefore,
        (_, 4) => Mishap::DieAfter,
        (_, 5) => Mishap::Panic,
        _ => Mishap::Refuse,
    };
    let times = if mishap == Mishap::Panic { 1 } else { chance.pick(&[1, 1, 2, 5]) };
    What::Store { call, mishap, times }
}

fn disk_fault(chance: &mut Chance) -> What {
    let trouble = match chance.below(8) {
        0..2 => Trouble::Full,
        2..4 => Trouble::Writes,
        4 => Trouble::All,
        5..7 => Trouble::Power,
        _ => return What::BitFlip,
    };
    let left = chance.pick(&[Left::Written, Left::Synced]);
    What::Disk { operations: chance.below(40), trouble, left, ms: chance.within(100, 4_000) }
}
