//! What is known to have happened: every sample that was taken, every copy of it that reached an ingest loop, and
//! every success that was answered. It is told by the devices' sensors and by the peers, and asks the host nothing.

mod look;
mod rows;
mod sums;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rollcall_device::outbox::Sample as Taken;
use rollcall_host::model::{UnixMs, Verdict};
use rollcall_wire::codec::{self, Rejection};
use rollcall_wire::{BootId, DeviceId, Kind, RunId, SampleId, Sequence, Status, Taken as InRun, Topic};

pub(crate) use self::look::Blind;
pub(crate) use self::sums::Sums;
use crate::scene::Failure;
use crate::time::now_ms;

/// See the module.
#[derive(Default)]
pub(crate) struct Oracle {
    devices: BTreeMap<DeviceId, Device>,
    /// Samples that nobody took, by who invents them.
    forged: BTreeSet<(DeviceId, SampleId)>,
    /// Which of them the last look has found.
    forged_found: BTreeSet<(DeviceId, SampleId)>,
    /// Messages without an identity that were handed on, by device and arrival, and how many of each device were
    /// answered with success.
    bare: BTreeMap<(DeviceId, UnixMs), u64>,
    bare_granted: BTreeMap<DeviceId, u64>,
    looks: u32,
    last_at_ms: u64,
    arrivals: u64,
}

/// A device that takes samples.
#[derive(Default)]
struct Device {
    boots: BTreeMap<BootId, Vec<Option<Sample>>>,
    latest_boot: Option<BootId>,
    /// What reached ingest loops of its clocks, in the order in which it did.
    heard: BTreeMap<(BootId, Option<RunId>), Vec<Heard>>,
    sums: Sums,
}

/// A sample that was kept, so that it is to be counted.
struct Sample {
    status: Status,
    /// When it was taken, in the run's time, by the host's clock, and by the device's.
    taken_ms: u64,
    taken_wall: UnixMs,
    device_ms: u64,
    /// Is it to be counted? Not when the power went while it was being written.
    is_kept: bool,
    copies: Vec<Copied>,
    /// It was answered with success.
    is_granted: bool,
    /// It was stored as undecided, or rejected by name.
    is_settled_otherwise: bool,
    /// The look that found it last, and as what.
    found: (u32, Found),
}

impl Sample {
    /// As what the look of this number found it.
    fn found_by(&self, look: u32) -> Found {
        if self.found.0 == look { self.found.1 } else { Found::Nowhere }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nowhere,
    Undecided,
    Counted,
}

/// One arrival of a sample at an ingest loop.
#[derive(Clone, Copy)]
struct Copied {
    received_at: UnixMs,
    at_ms: u64,
    /// Which process that was.
    life: u64,
    /// Its place among all arrivals.
    order: u64,
    run: Option<RunId>,
    /// The device's clock when it was encoded; `None` if another run than the one that took it sent it.
    up_ms: Option<u64>,
    /// How many messages had arrived when somebody heard what became of it.
    settled_after: Option<u64>,
}

/// A message about a device's clock.
#[derive(Clone, Copy)]
struct Heard {
    life: u64,
    order: u64,
    at_ms: u64,
    up_ms: u64,
    /// How long brokers had held it, and for how long it says so.
    waited_ms: u64,
    waited_s: u32,
}

/// How a message arrives at an ingest loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// By the host's clock.
    pub(crate) at: UnixMs,
    pub(crate) expiry_left_s: Option<u32>,
    /// How long a broker had held it.
    pub(crate) waited_ms: u64,
    /// Which process takes it.
    pub(crate) life: u64,
}

/// Of what a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A device's sample.
    Sample(DeviceId, SampleId),
    /// A message without an identity.
    Bare(DeviceId),
    /// Nothing that could be counted.
    Other,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample(device, id) => write!(f, "{device} {} of {}", id.seq.get(), id.boot),
            Self::Bare(device) => write!(f, "{device}, bare"),
            Self::Other => f.write_str("something else"),
        }
    }
}

/// What a message is about.
pub(crate) fn subject(topic: &str, payload: &[u8]) -> Subject {
    let Ok(topic) = Topic::parse(topic) else { return Subject::Other };
    match codec::decode(payload) {
        Ok(reading) if topic.kind == Kind::Status => match reading.id {
            Some(id) => Subject::Sample(topic.device, id),
            None => Subject::Bare(topic.device),
        },
        _ => Subject::Other,
    }
}

impl Oracle {
    /// There is such a device.
    pub(crate) fn add_device(&mut self, device: DeviceId) {
        self.devices.insert(device, Device::default());
    }

    /// A device has taken a sample, and is about to keep it.
    ///
    /// # Errors
    /// [`Failure`] when its number was given to another that is kept.
    pub(crate) fn taken(
        &mut self,
        id: DeviceId,
        boot: BootId,
        sample: Taken,
        wall: UnixMs,
    ) -> Result<(), Failure> {
        let Some(device) = self.devices.get_mut(&id) else { return Ok(()) };
        device.latest_boot = Some(boot);
        let samples = device.boots.entry(boot).or_default();
        let at = sample.seq.get() as usize;
        if samples.len() <= at {
            samples.resize_with(at + 1, || None);
        }
        if samples[at].as_ref().is_some_and(|before| before.is_kept) {
            return Err(Failure { check: "number", found: format!("{id} gives {at} of {boot} twice") });
        }
        samples[at] = Some(Sample {
            status: sample.status,
            taken_ms: now_ms(),
            taken_wall: wall,
            device_ms: sample.taken_at_ms,
            is_kept: false,
            copies: Vec::new(),
            is_granted: false,
            is_settled_otherwise: false,
            found: (0, Found::Nowhere),
        });
        Ok(())
    }

    /// It keeps it: it is to be counted.
    pub(crate) fn kept(&mut self, device: DeviceId, boot: BootId, seq: Sequence) {
        if let Some(sample) = self.sample(device, SampleId { boot, seq }) {
            sample.is_kept = true;
        }
    }

    /// It has found a sample in its flash.
    ///
    /// # Errors
    /// [`Failure`] when it is not one that it has taken.
    pub(crate) fn restored(&mut self, device: DeviceId, boot: BootId, found: Taken) -> Result<(), Failure> {
        match self.sample(device, SampleId { boot, seq: found.seq }) {
            Some(sample) if (sample.status, sample.device_ms) == (found.status, found.taken_at_ms) => {
                // It may have been written just before the power went.
                sample.is_kept = true;
                Ok(())
            }
            _ => Err(Failure { check: "flash", found: format!("{device} never took {found:?} of {boot}") }),
        }
    }

    /// Somebody invents this sample.
    pub(crate) fn forged(&mut self, device: DeviceId, id: SampleId) {
        self.forged.insert((device, id));
    }

    /// The boot that a device has taken samples in last.
    pub(crate) fn latest_boot(&self, device: DeviceId) -> Option<BootId> {
        self.devices.get(&device)?.latest_boot
    }

    fn sample(&mut self, device: DeviceId, id: SampleId) -> Option<&mut Sample> {
        let samples = self.devices.get_mut(&device)?.boots.get_mut(&id.boot)?;
        samples.get_mut(usize::try_from(id.seq.get()).ok()?)?.as_mut()
    }

    /// A message enters the inbox of an ingest loop; its place among all that do.
    pub(crate) fn handed_on(&mut self, subject: Subject, payload: &[u8], arrival: Arrival) -> u64 {
        let Arrival { at: received_at, expiry_left_s, waited_ms, life } = arrival;
        let at_ms = now_ms();
        (self.last_at_ms, self.arrivals) = (at_ms, self.arrivals + 1);
        let order = self.arrivals;
        match subject {
            Subject::Sample(id, sample_id) => {
                let (Ok(reading), Some(sample)) = (codec::decode(payload), self.sample(id, sample_id)) else {
                    return order;
                };
                let (run, up_ms) = (reading.run, reading.up_ms);
                sample.copies.push(Copied {
                    received_at,
                    at_ms,
                    life,
                    order,
                    run,
                    up_ms: up_ms.filter(|_| reading.taken == InRun::ThisRun),
                    settled_after: None,
                });
                if let (Some(up_ms), Some(device)) = (up_ms, self.devices.get_mut(&id)) {
                    let waited_s = codec::waited_s(expiry_left_s).unwrap_or(0);
                    let heard = device.heard.entry((sample_id.boot, run)).or_default();
                    heard.push(Heard { life, order, at_ms, up_ms, waited_ms, waited_s });
                }
            }
            Subject::Bare(device) => *self.bare.entry((device, received_at)).or_default() += 1,
            Subject::Other => {}
        }
        order
    }

    /// When a message came last.
    pub(crate) fn last_at_ms(&self) -> u64 {
        self.last_at_ms
    }

    /// What became of a message, by its place among all, before its sender hears it.
    ///
    /// # Errors
    /// [`Failure`] when a device's own sample is rejected without a reason.
    pub(crate) fn settled(&mut self, subject: Subject, order: u64, verdict: Verdict) -> Result<(), Failure> {
        match (subject, verdict) {
            (Subject::Sample(device, id), verdict) => {
                let arrivals = self.arrivals;
                let Some(sample) = self.sample(device, id) else { return Ok(()) };
                if let Some(copy) = sample.copies.iter_mut().find(|copy| copy.order == order) {
                    copy.settled_after = Some(arrivals);
                }
                match verdict {
                    Verdict::Accepted | Verdict::Duplicate => sample.is_granted = true,
                    Verdict::Undecided | Verdict::Rejected(Rejection::CannotTell) => {
                        sample.is_settled_otherwise = true;
                    }
                    Verdict::Rejected(rejection) => {
                        let found = format!("{device} {id:?} is rejected: {rejection}");
                        return Err(Failure { check: "rejected", found });
                    }
                }
            }
            (Subject::Bare(device), Verdict::Accepted) => *self.bare_granted.entry(device).or_default() += 1,
            _ => {}
        }
        Ok(())
    }

    /// What a run of a device has counted at its end.
    pub(crate) fn ended(&mut self, device: DeviceId, sums: Sums) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.sums += sums;
        }
    }
}
