//! How many messages a second MongoDB's store appends when nothing else is asked of it: no broker, no
//! deduplication, no rollups. Full flushes of all partitions, one after the other, each durable.
//!
//! `append mongodb://HOST:PORT/DATABASE COUNT` prints the messages a second; `cargo xtask bench` calls it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_host::intake::FLUSH_MESSAGES;
use rollcall_host::log::LogStore;
use rollcall_host::log::mongo::{MongoAddress, MongoStore};
use rollcall_host::model::{Entry, Record, RecordKind, TimeError, UnixMs, WriterId};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};

/// Devices take turns; the samples of a flush were taken within the second before it, as a live fleet's.
const DEVICES: u32 = 10_000;
const TAKEN_WITHIN_MS: u64 = 1_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [address, count] = arguments.as_slice() else {
        println!("cargo xtask bench --store mongodb measures this; it brings a mongod");
        return Ok(());
    };
    let count = count.parse().context("COUNT is a whole number")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(append(&MongoAddress::new(address), count))?);
    Ok(())
}

/// Appends at least `count` messages to an empty database; messages a second.
async fn append(address: &MongoAddress, count: usize) -> Result<f64> {
    let store = MongoStore::open(address).await?;
    let mut fleet = Fleet::new()?;
    let (mut appended, mut spent) = (0, Duration::ZERO);
    for number in 0..count.div_ceil(FLUSH_MESSAGES) as u64 {
        let entries = fleet.flush(number)?;
        let start = Instant::now();
        let taken = store.append(&entries).await?;
        spent += start.elapsed();
        ensure!(taken.is_empty(), "the database is not empty");
        appended += entries.iter().map(|entry| entry.records.len()).sum::<usize>();
    }
    Ok(appended as f64 / spent.as_secs_f64())
}

struct Device {
    id: DeviceId,
    boot: BootId,
    seq: Sequence,
}

struct Fleet {
    /// By slot.
    devices: Vec<Vec<Device>>,
    random: fastrand::Rng,
}

impl Fleet {
    fn new() -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut devices: Vec<Vec<_>> = Slot::all().map(|_| Vec::new()).collect();
        for number in 0..DEVICES {
            let id = DeviceId::new(&format!("load-{number}")).context("not a device id")?;
            let device = Device { id, boot: BootId(random.u64(..)), seq: Sequence::ZERO };
            devices[Slot::of(&id).index()].push(device);
        }
        Ok(Self { devices, random })
    }

    /// The next full flush: entry `number` of every slot.
    fn flush(&mut self, number: u64) -> Result<Vec<Entry>> {
        let now = UnixMs::now();
        let each = FLUSH_MESSAGES / Slot::COUNT;
        let entry = |slot: Slot| {
            let first = number as usize * each;
            let records = (first..first + each).map(|turn| self.record(slot, turn, now));
            Ok(Entry {
                slot,
                number,
                writer: WriterId::NOBODY,
                received_at: now,
                log_time: now,
                records: records.collect::<Result<_>>()?,
            })
        };
        Slot::all().map(entry).collect()
    }

    fn record(&mut self, slot: Slot, turn: usize, now: UnixMs) -> Result<Record> {
        let devices = &mut self.devices[slot.index()];
        let place = turn % devices.len();
        let device = &mut devices[place];
        let id = SampleId { boot: device.boot, seq: device.seq };
        device.seq = device.seq.next();
        Ok(Record {
            device: device.id,
            id: Some(id),
            status: Status::new(self.random.u8(..Status::COUNT as u8)).context("no status")?,
            kind: RecordKind::Sample,
            sampled_at: UnixMs(now.0 - self.random.u64(..TAKEN_WITHIN_MS)),
            time_error: TimeError::Exact,
            received_at: now,
        })
    }
}
