//! What was promised, against what the store holds: plain sets of (device, boot, sequence).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_host::intake::ingest::Ingest;
use rollcall_host::log::devices;
use rollcall_host::log::plan::{self, Plan};
use rollcall_host::log::rollup::CHUNK_ENTRIES;
use rollcall_host::log::row::{DeviceState, OPEN_BOOTS_MAX, RANGES_MAX, Row};
use rollcall_host::log::{LogStore, MemoryStore};
use rollcall_host::model::{Counts, RecordKind, Sender, UnixMs, Verdict};
use rollcall_wire::codec::Rejection;
use rollcall_wire::{BootId, DeviceId, SampleId, Slot};

/// A sample's name in the whole world.
pub(crate) type Name = (DeviceId, SampleId);

/// What clients have sent, and what they were told.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) sent: BTreeSet<Name>,
    /// Told: it is counted, whenever that was.
    pub(crate) counted: BTreeSet<Name>,
    /// Told: it is counted or listed as undecided. A PUBACK of 3.1.1 says no more.
    pub(crate) settled: BTreeSet<Name>,
    /// Told: it is listed as undecided, and not counted for that.
    pub(crate) undecided: BTreeSet<Name>,
    /// Told: it cannot be told whether it is counted.
    pub(crate) refused: BTreeSet<Name>,
    /// Samples without a name: how many were sent, and how many of these were acknowledged.
    pub(crate) bare: (u64, u64),
}

/// What a store holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) counted: BTreeSet<Name>,
    pub(crate) undecided: BTreeSet<Name>,
    pub(crate) bare: u64,
    /// Chunks of the log that are in the windows.
    pub(crate) chunks: u64,
}

impl Oracle {
    /// A sample with a name was sent.
    pub(crate) fn sends(&mut self, name: Name) {
        self.sent.insert(name);
    }

    /// A sample with a name was settled.
    pub(crate) fn hears(&mut self, name: Name, sender: Sender, verdict: Verdict) {
        match verdict {
            Verdict::Accepted | Verdict::Duplicate => drop(self.counted.insert(name)),
            Verdict::Undecided => {
                assert_eq!(sender, Sender::HearsNothing, "{name:?} could have been refused");
                self.undecided.insert(name);
            }
            Verdict::Rejected(rejection) => {
                assert_eq!(rejection, Rejection::CannotTell, "{name:?}");
                assert_eq!(sender, Sender::HearsRefusal, "nobody hears that {name:?} is refused");
                self.refused.insert(name);
            }
        }
    }

    /// Takes over what another client knows.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.counted.extend(other.counted);
        self.settled.extend(other.settled);
        self.undecided.extend(other.undecided);
        self.refused.extend(other.refused);
        self.bare = (self.bare.0 + other.bare.0, self.bare.1 + other.bare.1);
    }

    /// Whether bounds were passed beyond which something cannot be told: without that, everything can.
    fn is_beyond_bounds(&self) -> bool {
        let mut boots = BTreeMap::<(DeviceId, BootId), usize>::new();
        self.sent.iter().for_each(|(device, id)| *boots.entry((*device, id.boot)).or_default() += 1);
        let of = |device: DeviceId| boots.keys().filter(|(owner, _)| *owner == device).count();
        boots.iter().any(|((device, _), samples)| *samples > RANGES_MAX || of(*device) > OPEN_BOOTS_MAX)
    }

    /// The guarantee.
    pub(crate) fn check(&self, held: &Held) {
        let lost = |promised: &BTreeSet<Name>, held: &BTreeSet<Name>| -> Vec<Name> {
            promised.difference(held).copied().collect()
        };
        assert_eq!(lost(&self.counted, &held.counted), [], "acknowledged as counted, and not counted");
        assert_eq!(lost(&self.undecided, &held.undecided), [], "acknowledged, and not listed as undecided");
        let either = held.counted.union(&held.undecided).copied().collect();
        assert_eq!(lost(&self.settled, &either), [], "acknowledged, and neither counted nor undecided");
        assert_eq!(lost(&held.counted, &self.sent), [], "counted, and never sent");
        assert_eq!(lost(&held.undecided, &self.sent), [], "listed as undecided, and never sent");
        if !self.is_beyond_bounds() {
            assert_eq!(self.refused, BTreeSet::new(), "refused, and all could be told");
            assert_eq!(held.undecided, BTreeSet::new(), "undecided, and all could be told");
        }
        let (sent, acknowledged) = self.bare;
        assert!((acknowledged..=sent).contains(&held.bare), "{} of {:?} bare samples", held.bare, self.bare);
    }
}

/// Reads all that a store holds, once all rows are written. Fails when a name is counted twice, and when what is
/// made from the log says something else than the log.
pub(crate) async fn held<S: LogStore>(store: &S) -> Held {
    let mut held = Held::default();
    let log_alone = Arc::new(MemoryStore::default());
    for slot in Slot::all() {
        held.chunks += store.checkpoint(slot).await.unwrap().windows / CHUNK_ENTRIES;
        for entry in store.read(slot, 0, usize::MAX).await.unwrap() {
            for record in &entry.records {
                match (record.kind, record.id) {
                    (RecordKind::Undecided, id) => {
                        held.undecided.insert((record.device, id.expect("a bare sample is always new")));
                    }
                    (_, Some(id)) => {
                        assert!(held.counted.insert((record.device, id)), "{record:?} is counted twice");
                    }
                    (_, None) => held.bare += 1,
                }
            }
            log_alone.append(&[entry]).await.unwrap();
        }
    }
    let everything = Plan::new(0..u64::from(u32::MAX) * 2);
    let total = plan::total(&everything, &store.view(&everything).await.unwrap()).total();
    assert_eq!(total, held.counted.len() as u64 + held.bare, "queries do not agree with the log");
    let counted: BTreeSet<_> = held.counted.iter().map(|(device, _)| *device).collect();
    for device in counted {
        let slot = Slot::of(&device);
        let log = store.read(slot, 0, usize::MAX).await.unwrap();
        let mut logged = Counts::default();
        for record in log.iter().flat_map(|entry| &entry.records) {
            if record.device == device {
                logged.count(record);
            }
        }
        let all = 0..u32::MAX;
        let read = devices::read(store, &[device], &all, UnixMs(0)).await.unwrap();
        assert_eq!(
            read.value[0].counts(&all).unwrap(),
            logged,
            "the windows of {device} do not agree with the log"
        );
    }
    Ingest::open(log_alone.clone()).await.unwrap().write_all_rows().await.unwrap();
    for slot in Slot::all() {
        assert_eq!(states(store, slot).await, states(&*log_alone, slot).await, "rows and log of slot {slot}");
    }
    held
}

/// What the rows of a slot say, whenever they were written.
async fn states<S: LogStore>(store: &S, slot: Slot) -> Vec<(DeviceId, DeviceState, Option<Vec<u8>>)> {
    let rows = store.rows(slot, None, usize::MAX).await.unwrap();
    let state = |row: &Row| DeviceState::from_bytes(&row.state).expect("a row is readable");
    rows.iter().map(|row| (row.device, state(row), row.closed.clone())).collect()
}
