//! Stores of older formats, made of today's: what their versions of Rollcall would have written.

#[cfg(feature = "mongodb")]
pub(crate) mod mongo;

use std::collections::BTreeMap;
use std::path::Path;

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use rollcall_host::log::minutes::Minutes;
use rollcall_host::log::row::DeviceState;
use rollcall_host::model::Counts;

const FILE: &str = "rollcall.redb";

/// From this number on windows of devices are of a day.
const DAYS: u32 = 1 << 31;

/// What follows each value since format 3.
const SEAL_BYTES: usize = 4;

type Tail = TableDefinition<'static, u64, &'static [u8]>;
type Chunks = TableDefinition<'static, (u64, u16), &'static [u8]>;
type Progress = TableDefinition<'static, u8, &'static [u8]>;
type Devices = TableDefinition<'static, (u8, &'static str), &'static [u8]>;
type DeviceWindows = TableDefinition<'static, (u8, &'static str, u32), &'static [u8]>;
type Sums = TableDefinition<'static, u64, [u64; 7]>;

const TAIL: Tail = Tail::new("tail");
const CHUNKS: Chunks = Chunks::new("chunks");
const PROGRESS: Progress = Progress::new("progress");

/// By second: its distance from the one before, and each number that is not zero.
type Seconds = Vec<(u64, Vec<(u8, u64)>)>;

/// Changes a store that nobody uses.
pub(crate) fn change(directory: &Path, change: impl FnOnce(&WriteTransaction)) {
    let database = redb::Database::open(directory.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// Makes a store of format 1 to 9 out of one of today's. Rows of devices and their hours, which are made anew, stay as they
/// are where their form had only other fields.
pub(crate) fn as_format(directory: &Path, format: u64) {
    change(directory, |transaction| {
        // As 9 and as 7, where messages were removed.
        as_format_8(transaction);
        if format < 8 {
            as_format_6(transaction);
        }
        if format < 6 {
            as_format_5(transaction);
        }
        if format < 5 {
            as_format_4(transaction);
        }
        if format < 4 {
            as_format_3(transaction);
        }
        if format < 3 {
            as_format_2(transaction);
        }
        transaction
            .open_table(TableDefinition::<&str, u64>::new("meta"))
            .unwrap()
            .insert("format", format)
            .unwrap();
    });
}

/// What rows held had each time whole.
fn as_format_8(transaction: &WriteTransaction) {
    each_row(transaction, |sealed, state| {
        [postcard::to_allocvec(&sealed).unwrap(), whole_times(state)].concat()
    });
}

/// A row's state as the versions before wrote it.
fn whole_times(state: &[u8]) -> Vec<u8> {
    postcard::to_allocvec(&DeviceState::from_bytes(state).unwrap()).unwrap()
}

/// Minutes had no sum, and devices no windows of a day.
fn as_format_6(transaction: &WriteTransaction) {
    each(transaction, Tail::new("window_minutes"), "window_minutes", |start, value| {
        let common = value[0] & 0x7f;
        let minute = Minutes::from_bytes(&value[1..]).unwrap();
        let mut minute = minute.iter().map(|(place, counts)| (place, put_back(common, counts)));
        let (_, sum) = minute.next().unwrap();
        let mut total = Counts::default();
        let mut last = 0;
        let seconds = minute.map(|(place, counts)| {
            total += counts;
            let second = start + u64::from(place) - 1;
            let distance = second - std::mem::replace(&mut last, second);
            (distance, numbers(&counts))
        });
        let seconds: Seconds = seconds.collect();
        assert_eq!(total, sum);
        postcard::to_allocvec(&seconds).unwrap()
    });
    each_row(transaction, |sealed, state| {
        [postcard::to_allocvec(&by_hour(sealed)).unwrap(), state.to_vec()].concat()
    });
    let mut windows = transaction.open_table(DeviceWindows::new("device_hours")).unwrap();
    let mut days = Vec::new();
    for row in windows.iter().unwrap() {
        let (key, value) = row.unwrap();
        let (slot, device, number) = key.value();
        if number >= DAYS {
            days.push(((slot, device.to_owned(), number), value.value().to_vec()));
        }
    }
    for ((slot, device, number), value) in days {
        windows.remove((slot, device.as_str(), number)).unwrap();
        let mut new = -1_i64;
        for (hour, below, minutes) in hours_of_day(number, plain(&value)) {
            let key = (slot, device.as_str(), hour);
            let held = windows.get(key).unwrap().map(|held| plain(held.value()).to_vec());
            new += i64::from(held.is_none());
            let merged = sealed("device_hours", &key_bytes(key), merged(held.as_deref(), below, &minutes));
            windows.insert(key, merged.as_slice()).unwrap();
        }
        change_progress(transaction, slot, |(_, _, windows)| *windows = windows.strict_add_signed(new));
    }
}

/// What was sealed for windows of a day, for those of hours.
fn by_hour(sealed: Vec<(u64, &[u8])>) -> Vec<(u64, &[u8])> {
    sealed.into_iter().map(|(below, minutes)| (below & !(1 << 63), minutes)).collect()
}

/// A day's window in pieces: hour, up to where it is, and its minutes.
fn hours_of_day(number: u32, day: &[u8]) -> Vec<(u32, u64, Minutes)> {
    let (below, bytes): (u64, _) = postcard::take_from_bytes(day).unwrap();
    let mut hours = BTreeMap::<u32, Minutes>::new();
    for (minute, counts) in Minutes::from_bytes(&bytes[1..]).unwrap().iter() {
        let hour = hours.entry((number ^ DAYS) * 24 + minute / 60).or_default();
        hour.add(minute % 60, &put_back(bytes[0], counts));
    }
    hours.into_iter().map(|(hour, minutes)| (hour, below, minutes)).collect()
}

/// Counts with what all samples beside them have in common.
fn put_back(common: u8, mut counts: Counts) -> Counts {
    let total = counts.total();
    let numbers = [&mut counts.late, &mut counts.one_second, &mut counts.unknown];
    for (_, number) in (0..).zip(numbers).filter(|(bit, _)| common >> bit & 1 > 0) {
        *number = total;
    }
    counts
}

/// An hour's window with more in it.
fn merged(held: Option<&[u8]>, below: u64, minutes: &Minutes) -> Vec<u8> {
    let (held_below, held): (u64, _) =
        held.map_or((0, &[][..]), |held| postcard::take_from_bytes(held).unwrap());
    let mut all = BTreeMap::<u32, Counts>::new();
    for (minute, counts) in Minutes::from_bytes(held).unwrap().iter().chain(minutes.iter()) {
        *all.entry(minute).or_default() += counts;
    }
    let mut minutes = Minutes::default();
    all.iter().for_each(|(minute, counts)| minutes.add(*minute, counts));
    [&postcard::to_allocvec(&below.max(held_below)).unwrap(), minutes.as_bytes()].concat()
}

fn key_bytes(key: (u8, &str, u32)) -> Vec<u8> {
    <(u8, &str, u32) as redb::Value>::as_bytes(&key)
}

/// Each number that is not zero, by its place.
fn numbers(counts: &Counts) -> Vec<(u8, u64)> {
    let others = [counts.one_second, counts.unknown, counts.late, counts.undecided];
    (0..).zip(counts.statuses.into_iter().chain(others)).filter(|(_, count)| *count > 0).collect()
}

/// How far windows, rows, their number and that of closed boots are, what is in the windows, and how many windows devices
/// have.
type Made = ((u64, u64, u64, u64), [u64; 11], u64);

fn change_progress(transaction: &WriteTransaction, slot: u8, change: impl FnOnce(&mut Made)) {
    let mut progress = transaction.open_table(PROGRESS).unwrap();
    let stored = plain(progress.get(slot).unwrap().unwrap().value()).to_vec();
    let mut made: Made = postcard::from_bytes(&stored).unwrap();
    change(&mut made);
    let bytes = postcard::to_allocvec(&made).unwrap();
    progress.insert(slot, sealed("progress", &[slot], bytes).as_slice()).unwrap();
}

/// Counts told neither what came late nor what is undecided.
fn as_format_5(transaction: &WriteTransaction) {
    entries_as(3, transaction);
    each(transaction, Tail::new("window_minutes"), "window_minutes", |_, value| {
        let minute: Seconds = postcard::from_bytes(value).unwrap();
        postcard::to_allocvec(&numbers_below(9, minute)).unwrap()
    });
    for table in ["window_hours", "window_days"] {
        each(transaction, Tail::new(table), table, |_, value| {
            let sum: [u64; 11] = postcard::from_bytes(value).unwrap();
            postcard::to_allocvec::<[u64; 9]>(&std::array::from_fn(|number| sum[number])).unwrap()
        });
    }
    let mut progress = transaction.open_table(PROGRESS).unwrap();
    for slot in 0..16 {
        let stored = progress.get(slot).unwrap().map(|stored| plain(stored.value()).to_vec());
        let Some(stored) = stored else { continue };
        let (made, counts, hours): ((u64, u64, u64, u64), [u64; 11], u64) =
            postcard::from_bytes(&stored).unwrap();
        let counts: [u64; 9] = std::array::from_fn(|number| counts[number]);
        let bytes = postcard::to_allocvec(&(made, counts, hours)).unwrap();
        progress.insert(slot, sealed("progress", &[slot], bytes).as_slice()).unwrap();
    }
}

/// Devices had no windows, and the checkpoint did not say how many hours they have.
fn as_format_4(transaction: &WriteTransaction) {
    transaction.delete_table(TableDefinition::<(u8, &str, u32), &[u8]>::new("device_hours")).unwrap();
    each_row(transaction, |_, state| state.to_vec());
    let mut progress = transaction.open_table(PROGRESS).unwrap();
    for slot in 0..16 {
        let stored = progress.get(slot).unwrap().map(|stored| plain(stored.value()).to_vec());
        let Some(stored) = stored else { continue };
        let (made, _hours): ((u64, u64, u64, u64, [u64; 9]), u64) = postcard::from_bytes(&stored).unwrap();
        let bytes = postcard::to_allocvec(&made).unwrap();
        progress.insert(slot, sealed("progress", &[slot], bytes).as_slice()).unwrap();
    }
}

/// Entries, windows and checkpoints counted statuses only.
fn as_format_3(transaction: &WriteTransaction) {
    entries_as(2, transaction);
    each(transaction, Tail::new("window_minutes"), "window_minutes", |_, value| {
        let minute: Seconds = postcard::from_bytes(value).unwrap();
        postcard::to_allocvec(&numbers_below(7, minute)).unwrap()
    });
    for table in ["window_hours", "window_days"] {
        each(transaction, Tail::new(table), table, |_, value| {
            let sum: [u64; 9] = postcard::from_bytes(value).unwrap();
            postcard::to_allocvec::<[u64; 7]>(&std::array::from_fn(|status| sum[status])).unwrap()
        });
    }
    let mut progress = transaction.open_table(PROGRESS).unwrap();
    for slot in 0..16 {
        let Some(stored) = progress.get(slot).unwrap().map(|stored| plain(stored.value()).to_vec()) else {
            continue;
        };
        let (windows, rows, devices, _closed, counts): (u64, u64, u64, u64, [u64; 9]) =
            postcard::from_bytes(&stored).unwrap();
        let counts: [u64; 7] = std::array::from_fn(|status| counts[status]);
        let bytes = postcard::to_allocvec(&(windows, rows, devices, counts)).unwrap();
        progress.insert(slot, sealed("progress", &[slot], bytes).as_slice()).unwrap();
    }
}

/// All entries, packed or not, in an older form.
fn entries_as(version: u8, transaction: &WriteTransaction) {
    each(transaction, TAIL, "tail", |key, value| {
        // A slot's last key has the length of its log.
        if key % (1 << 40) == (1 << 40) - 1 { value.to_vec() } else { as_entry(version, value) }
    });
    let mut chunks = transaction.open_table(CHUNKS).unwrap();
    let all = unpacked(&chunks);
    chunks.retain(|_, _| false).unwrap();
    for (first, entries) in all {
        for (piece, number) in packed(&as_entries(version, &entries)).into_iter().zip(0_u16..) {
            let key = [&first.to_le_bytes()[..], &number.to_le_bytes()].concat();
            chunks.insert((first, number), sealed("chunks", &key, piece).as_slice()).unwrap();
        }
    }
}

/// No checksums, no rows, no lengths, and entries without a log time.
fn as_format_2(transaction: &WriteTransaction) {
    let open = |name: &'static str| transaction.open_table(Tail::new(name)).unwrap();
    {
        let (tail, minutes) = (open("tail"), open("window_minutes"));
        let mut entries = open("entries");
        for row in tail.range::<u64>(..).unwrap() {
            let (key, value) = row.unwrap();
            if key.value() % (1 << 40) != (1 << 40) - 1 {
                entries.insert(key.value(), as_entry(1, plain(value.value())).as_slice()).unwrap();
            }
        }
        let mut older = open("minutes");
        for row in minutes.range::<u64>(..).unwrap() {
            let (key, value) = row.unwrap();
            older.insert(key.value(), plain(value.value())).unwrap();
        }
        for (today, older) in [("window_hours", "hours"), ("window_days", "days")] {
            let mut older = transaction.open_table(Sums::new(older)).unwrap();
            for row in open(today).range::<u64>(..).unwrap() {
                let (key, value) = row.unwrap();
                let sum: [u64; 7] = postcard::from_bytes(plain(value.value())).unwrap();
                older.insert(key.value(), sum).unwrap();
            }
        }
        let mut older = transaction.open_table(Chunks::new("packed")).unwrap();
        for (first, entries) in unpacked(&transaction.open_table(CHUNKS).unwrap()) {
            for (piece, number) in packed(&as_entries(1, &entries)).iter().zip(0_u16..) {
                older.insert((first, number), piece.as_slice()).unwrap();
            }
        }
        let mut checkpoints = transaction.open_table(TableDefinition::<u8, u64>::new("checkpoints")).unwrap();
        let mut dedupe = transaction.open_table(Progress::new("dedupe")).unwrap();
        for row in transaction.open_table(PROGRESS).unwrap().range::<u8>(..).unwrap() {
            let (slot, value) = row.unwrap();
            let (windows, _): (u64, _) = postcard::take_from_bytes(value.value()).unwrap();
            checkpoints.insert(slot.value(), windows).unwrap();
            dedupe.insert(slot.value(), &b"the state of a checkpoint"[..]).unwrap();
        }
    }
    for name in ["tail", "window_minutes", "window_hours", "window_days"] {
        transaction.delete_table(Tail::new(name)).unwrap();
    }
    transaction.delete_table(CHUNKS).unwrap();
    transaction.delete_table(PROGRESS).unwrap();
    transaction.delete_table(Devices::new("devices")).unwrap();
    transaction.delete_table(Devices::new("closed_boots")).unwrap();
}

/// Replaces each value of a table.
fn each(transaction: &WriteTransaction, table: Tail, name: &str, value: impl Fn(u64, &[u8]) -> Vec<u8>) {
    let mut table = transaction.open_table(table).unwrap();
    let keys: Vec<_> = table.range::<u64>(..).unwrap().map(|row| row.unwrap().0.value()).collect();
    for key in keys {
        let new = value(key, plain(table.get(key).unwrap().unwrap().value()));
        table.insert(key, sealed(name, &key.to_le_bytes(), new).as_slice()).unwrap();
    }
}

/// Each row, whose first eight bytes stay; by what it has sealed and its state.
fn each_row(transaction: &WriteTransaction, rest: impl Fn(Vec<(u64, &[u8])>, &[u8]) -> Vec<u8>) {
    let mut devices = transaction.open_table(Devices::new("devices")).unwrap();
    let mut rows = Vec::new();
    for row in devices.iter().unwrap() {
        let (key, value) = row.unwrap();
        let (slot, device) = key.value();
        let value = plain(value.value());
        let (sealed, state) = postcard::take_from_bytes(&value[8..]).unwrap();
        rows.push((slot, device.to_owned(), [&value[..8], &rest(sealed, state)].concat()));
    }
    for (slot, device, row) in rows {
        let row = sealed("devices", device.as_bytes(), row);
        devices.insert((slot, device.as_str()), row.as_slice()).unwrap();
    }
}

fn plain(sealed: &[u8]) -> &[u8] {
    &sealed[..sealed.len() - SEAL_BYTES]
}

/// A value as it is stored since format 3.
pub(crate) fn sealed(table: &str, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&[table.as_bytes(), &[0], key, &value].concat());
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// Every chunk's entries, by the key of the first.
fn unpacked(chunks: &impl ReadableTable<(u64, u16), &'static [u8]>) -> Vec<(u64, Vec<Vec<u8>>)> {
    let mut all = Vec::<(u64, Vec<u8>)>::new();
    for row in chunks.range::<(u64, u16)>(..).unwrap() {
        let (key, value) = row.unwrap();
        let (first, number) = key.value();
        if number == 0 {
            all.push((first, Vec::new()));
        }
        all.last_mut().unwrap().1.extend_from_slice(plain(value.value()));
    }
    let unpack =
        |bytes: &[u8]| postcard::from_bytes(&lz4_flex::decompress_size_prepended(bytes).unwrap()).unwrap();
    all.iter().map(|(first, bytes)| (*first, unpack(bytes))).collect()
}

fn packed(entries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let packed = lz4_flex::compress_prepend_size(&postcard::to_allocvec(entries).unwrap());
    packed.chunks(4_000).map(<[u8]>::to_vec).collect()
}

fn as_entries(version: u8, entries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    entries.iter().map(|bytes| as_entry(version, bytes)).collect()
}

/// An entry in an older form, made of today's or of one that is not as old: the first began with its time and had no log
/// time, the second counts statuses only, and the third beside them how exactly times are known.
fn as_entry(version: u8, bytes: &[u8]) -> Vec<u8> {
    let (form, mut rest): (u8, _) = postcard::take_from_bytes(bytes).unwrap();
    if form > 3 {
        // Who wrote it.
        (_, rest) = postcard::take_from_bytes::<u32>(rest).unwrap();
    }
    let ((received_at, log_time, seconds), streams): ((u64, i64, Seconds), _) =
        postcard::take_from_bytes(rest).unwrap();
    let seconds = numbers_below(if version == 3 { 9 } else { 7 }, seconds);
    let head = match version {
        1 => postcard::to_allocvec(&(received_at, seconds)),
        _ => postcard::to_allocvec(&(version, received_at, log_time, seconds)),
    };
    [&head.unwrap(), streams].concat()
}

fn numbers_below(end: u8, mut seconds: Seconds) -> Seconds {
    seconds.iter_mut().for_each(|(_, numbers)| numbers.retain(|(number, _)| *number < end));
    seconds
}
