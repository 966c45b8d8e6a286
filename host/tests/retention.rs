//! Stores that have removed messages: their repair, the room that they take, and `serve --keep-messages`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::damage::{self, Damage};
use common::place::{Place, Redb, migrate, on_each_place, refusal, run};
use common::serve::{Process, rollcall, said};
use common::{brute_force, device, record};
use rollcall_host::intake::ingest::Ingest;
use rollcall_host::intake::{self, KeepMessages, recount, remove_old_once};
use rollcall_host::log::plan::{Plan, total};
use rollcall_host::log::{LogStore, StoreAddress, devices};
use rollcall_host::model::{Record, RecordKind, TimeError, UnixMs, Verdict};
use rollcall_wire::{BootId, SampleId, Sequence, Slot};
use tokio::sync::mpsc;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
const DEVICES: u64 = 3;
const BEGIN_MS: u64 = 1_700_000_000_000;

on_each_place! {
    whatever_is_damaged_after_a_cut_is_repaired_or_named_and_nothing_is_counted_otherwise
    a_repair_after_a_cut_changes_no_answer_and_can_be_cut_off_anywhere
    windows_of_devices_that_stay_damaged_keep_nothing_from_being_stored
    a_store_of_a_format_before_that_has_removed_messages_is_converted
    a_process_that_is_killed_while_it_removes_messages_leaves_the_rest_to_the_next
}

/// A sample of a device that sends every hour, and starts again every ten days.
fn sample(random: &mut fastrand::Rng, number: u64, nth: u64) -> Record {
    let at = UnixMs(BEGIN_MS + nth * HOUR_MS + number);
    let seq = Sequence::new(nth % 240).unwrap();
    Record {
        id: Some(SampleId { boot: BootId(nth / 240), seq }),
        sampled_at: at,
        received_at: at,
        time_error: TimeError::Exact,
        ..record(random, device(number), 0)
    }
}

/// 80 days of messages, of which those of the first ones are removed.
async fn cut(random: &mut fastrand::Rng, address: &StoreAddress) -> Vec<Record> {
    const HOURS: u64 = 80 * 24;
    let store = Arc::new(address.open().await.unwrap());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let mut all = Vec::new();
    for nth in (0..HOURS).step_by(8) {
        let some = |number| (nth..nth + 8).map(move |nth| (number, nth));
        let records: Vec<_> =
            (0..DEVICES).flat_map(some).map(|(number, nth)| sample(random, number, nth)).collect();
        ingest.commit(&records, records[0].received_at).await.unwrap();
        ingest.roll().await.unwrap();
        if nth % 48 == 0 {
            ingest.write_all_rows().await.unwrap();
        }
        all.extend(records);
    }
    // One that has more boots than can be open.
    let now = UnixMs(BEGIN_MS + HOURS * HOUR_MS);
    for boot in 0..20 {
        let id = Some(SampleId { boot: BootId(1_000 + boot), seq: Sequence::ZERO });
        let (sampled_at, received_at) = (now, now);
        let record = Record { id, sampled_at, received_at, ..sample(random, 99, 0) };
        ingest.commit(&[record], now).await.unwrap();
        all.push(record);
    }
    ingest.write_all_rows().await.unwrap();
    let gone = remove_old_once(&*store, "31d".parse().unwrap(), now).await.unwrap();
    assert!(gone > 128, "{gone}");
    for slot in Slot::all() {
        let first = store.start(slot).await.unwrap().first;
        while store.release(slot, first).await.unwrap() {}
    }
    all
}

/// All answers are right, or errors; which errors.
async fn errors(address: &StoreAddress, records: &[Record]) -> Vec<String> {
    let store = match address.open().await {
        Ok(store) => Arc::new(store),
        Err(error) => return vec![error.to_string()],
    };
    let mut errors = Vec::new();
    let first = BEGIN_MS / DAY_MS * 86_400;
    let days = (0..82).map(|day| first + day * 86_400..first + (day + 1) * 86_400);
    let hours = (0..82 * 24).step_by(29).map(|hour| first + hour * 3_600..first + (hour + 1) * 3_600);
    let minutes =
        (0..82 * 24).step_by(23).map(|hour| first + hour * 3_600 + 60..first + (hour + 2) * 3_600 + 7);
    for range in days.chain(hours).chain(minutes).chain(std::iter::once(0..4_000_000_000)) {
        let plan = Plan::new(range.clone());
        match store.view(&plan).await {
            Ok(view) => assert_eq!(total(&plan, &view), brute_force(records, &range), "{range:?}"),
            Err(error) => errors.push(error.to_string()),
        }
    }
    for device in (0..DEVICES).chain([99]).map(device) {
        for day in (0..82_u64).step_by(3) {
            let from = (first / 60 + day * 1440) as u32;
            let minutes = from..from + 1440;
            let of_device = records.iter().filter(|record| record.device == device);
            let seconds = u64::from(minutes.start) * 60..u64::from(minutes.end) * 60;
            let expected = brute_force(of_device, &seconds);
            match devices::read(&*store, &[device], &minutes, UnixMs(0)).await {
                Ok(read) => match read.value[0].counts(&minutes) {
                    Ok(counts) => assert_eq!(counts, expected, "{device} on day {day}"),
                    Err(error) => errors.push(error.to_string()),
                },
                Err(error) => errors.push(error.to_string()),
            }
        }
    }
    match Ingest::open(store.clone()).await {
        // What can come is 30 days old at most, and is known.
        Ok(mut ingest) => {
            let last = records.iter().map(|record| record.received_at.0).max().unwrap();
            let young: Vec<_> =
                records.iter().filter(|record| record.received_at.0 + 30 * DAY_MS > last).copied().collect();
            let verdicts = ingest.commit(&young, UnixMs(last)).await.unwrap();
            let taken = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
            assert_eq!(taken, 0, "of {} samples that were counted", young.len());
        }
        Err(error) => errors.push(error.to_string()),
    }
    errors
}

async fn repair(address: &StoreAddress) -> anyhow::Result<()> {
    Ok(intake::rebuild(address.open_to_repair().await?).await?)
}

/// The ingest goes on: late samples of days that were kept as they are, and of others, which it seals and rolls up.
async fn go_on<S: LogStore>(random: &mut fastrand::Rng, store: &Arc<S>) -> Vec<Record> {
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let now = UnixMs(BEGIN_MS + 81 * DAY_MS);
    let mut all = Vec::new();
    for nth in 0..200 {
        let id = Some(SampleId { boot: BootId(77), seq: Sequence::new(nth).unwrap() });
        let sampled_at = UnixMs(now.0 - random.u64(..60 * DAY_MS));
        let kind = RecordKind::Sample;
        let new = Record { id, kind, sampled_at, received_at: now, ..sample(random, 1, 0) };
        assert_eq!(ingest.commit(&[new], now).await.unwrap(), [Verdict::Accepted]);
        ingest.roll().await.unwrap();
        all.push(new);
    }
    ingest.write_all_rows().await.unwrap();
    all
}

/// What doctor says is wrong.
async fn wrong(address: &StoreAddress) -> Vec<String> {
    let (sender, reports) = mpsc::channel(1000);
    address.checks(recount, sender).await;
    common::failures(reports).await
}

fn whatever_is_damaged_after_a_cut_is_repaired_or_named_and_nothing_is_counted_otherwise<P: Place>() {
    let mut random = common::random();
    let (mut repaired, mut refused) = (0, 0);
    for made in P::MADE.iter().chain(&["starts"]) {
        for damage in P::DAMAGES {
            // MongoDB does not miss a document that is gone.
            let is_mongo = !matches!(P::fresh().address(), StoreAddress::Redb(_));
            let kept = ["device_hours", "minutes", "hours", "days", "starts", "devices"];
            if is_mongo && *damage != Damage::Changed && kept.contains(made) {
                continue;
            }
            let place = P::fresh();
            let address = place.address();
            run(async {
                let records = cut(&mut random, &address).await;
                if repaired + refused == 0 {
                    assert_eq!(errors(&address, &records).await, Vec::<String>::new());
                }
                place.damage(&mut random, made, *damage).await;
                match repair(&address).await {
                    Ok(()) => {
                        let errors = errors(&address, &records).await;
                        println!(
                            "{made} {damage:?}: repaired, {} errors: {:?}",
                            errors.len(),
                            errors.first()
                        );
                        // What is kept and damaged stays so: doctor names it.
                        assert!(errors.is_empty() || !wrong(&address).await.is_empty(), "{errors:?}");
                        // It does not keep the ingest from storing.
                        go_on(&mut random, &Arc::new(address.open().await.unwrap())).await;
                        repaired += 1;
                    }
                    Err(error) => {
                        println!("{made} {damage:?}: {error}");
                        refused += 1;
                    }
                }
            });
        }
    }
    assert!(repaired > refused, "{repaired} repaired, {refused} refused");
}

fn a_repair_after_a_cut_changes_no_answer_and_can_be_cut_off_anywhere<P: Place>() {
    let mut random = common::random();
    let place = P::fresh();
    let address = place.address();
    let records = run(cut(&mut random, &address));
    let mut waits = 0;
    while run(common::place::cut_off_after(waits, repair(&address))).map(Result::unwrap).is_none() {
        waits += 1 + waits / 2;
    }
    assert!(waits > 5, "{waits}");
    run(async {
        assert_eq!(errors(&address, &records).await, Vec::<String>::new());
        assert_eq!(wrong(&address).await, Vec::<String>::new());
        let store = Arc::new(address.open().await.unwrap());
        let mut all = records;
        all.extend(go_on(&mut random, &store).await);
        drop(store);
        assert_eq!(errors(&address, &all).await, Vec::<String>::new());
        assert_eq!(wrong(&address).await, Vec::<String>::new());
    });
}

fn length(directory: &Path) -> u64 {
    fs::metadata(directory.join("rollcall.redb")).unwrap().len()
}

/// How long the file is after each of four periods of 31 days. Each day brings a burst, so that messages and not windows
/// take the room, which stay.
async fn lengths(place: &Redb, keep: Option<KeepMessages>) -> Vec<u64> {
    let mut random = common::random();
    let store = Arc::new(place.address().open().await.unwrap());
    let mut ingest = Ingest::open(store.clone()).await.unwrap();
    let (mut lengths, mut sent) = (Vec::new(), 0);
    for day in 0..4 * 31_u64 {
        for flush in 0..20 {
            let at = UnixMs(BEGIN_MS + day * DAY_MS + flush * 1_000);
            let records: Vec<_> = (0..200)
                .map(|nth| Record {
                    sampled_at: UnixMs(at.0 - random.u64(..1_000)),
                    received_at: at,
                    ..sample(&mut random, nth % 20, (day * 20 + flush) * 10 + nth / 20)
                })
                .collect();
            sent += records.len();
            ingest.commit(&records, at).await.unwrap();
            ingest.roll().await.unwrap();
        }
        ingest.write_all_rows().await.unwrap();
        if let Some(keep) = keep {
            remove_old_once(&*store, keep, UnixMs(BEGIN_MS + day * DAY_MS)).await.unwrap();
        }
        if (day + 1) % 31 == 0 {
            lengths.push(length(place.directory()));
        }
    }
    let plan = Plan::new(0..4_000_000_000);
    assert_eq!(total(&plan, &store.view(&plan).await.unwrap()).total(), sent as u64);
    lengths
}

#[test]
fn disk_use_stays_level_over_three_periods_and_compact_gives_room_back() {
    let (place, endless) = (Redb::fresh(), Redb::fresh());
    let kept = run(lengths(&endless, None));
    let lengths = run(lengths(&place, Some("31d".parse().unwrap())));
    println!("bytes after each period: {lengths:?}, and where all is kept {kept:?}");
    // The file grows by steps of up to its length, and windows stay.
    assert!(lengths[3] <= 2 * lengths[0] && lengths[3] < kept[3], "{lengths:?} {kept:?}");

    let store = format!("redb:{}", place.directory().display());
    let used = Process::start("serve", &store);
    let refused = rollcall("compact", &store).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("another process uses"), "{text}");
    drop(used);
    // Where it was killed it is repaired when it is opened, and may come out a little longer or shorter.
    let (code, text) = said(&mut rollcall("compact", &store));
    println!("{text}");
    assert_eq!(code, Some(0), "{text}");
    let after = format!(" bytes before, {} after", length(place.directory()));
    let before = text.trim().strip_suffix(&after).and_then(|before| before.parse::<u64>().ok());
    assert!(before.is_some_and(|before| length(place.directory()) < before), "{text}");
    // What is in use, without the room that the steps have left.
    let (code, text) = said(&mut rollcall("compact", &format!("redb:{}", endless.directory().display())));
    assert_eq!(code, Some(0), "{text}");
    assert!(2 * length(place.directory()) < length(endless.directory()), "{text}");
    let (code, text) = said(&mut rollcall("doctor", &store));
    assert!(code == Some(0) && text.contains("older messages were removed"), "{text}");
}

#[test]
fn serve_removes_what_is_older_than_it_is_to_keep_and_says_so() {
    let mut random = common::random();
    let place = Redb::fresh();
    let store = format!("redb:{}", place.directory().display());
    let now = UnixMs::now().0;
    run(async {
        let store = Arc::new(place.address().open().await.unwrap());
        let mut ingest = Ingest::open(store).await.unwrap();
        for nth in 0..1000 {
            let at = UnixMs(now - 50 * DAY_MS + nth * HOUR_MS);
            let record = Record { sampled_at: at, received_at: at, ..sample(&mut random, 1, nth) };
            ingest.commit(&[record], at).await.unwrap();
        }
        ingest.roll().await.unwrap();
        ingest.write_all_rows().await.unwrap();
    });
    let counted = |host: &Process| {
        let answer = host.get("/status_count?start=0&end=9999999999");
        answer.split("\r\n\r\n").nth(1).unwrap().split(r#","as_of""#).next().unwrap().to_owned()
    };
    let host = Process::start("serve", &store);
    let before = counted(&host);
    assert!(host.get("/v1/messages?start=0&end=9999999999").contains(r#""complete":true"#));
    drop(host);
    let mut serve = rollcall("serve", &store);
    serve.args(["--keep-messages", "31d"]);
    let host = Process::start_as(serve);
    while host.get("/metrics").contains("rollcall_entries_removed_total 0") {
        std::thread::yield_now();
    }
    while host.get("/v1/messages?start=0&end=9999999999").contains(" 200 ") {
        std::thread::yield_now();
    }
    assert_eq!(counted(&host), before);
    let metrics = host.get("/metrics");
    assert!(metrics.contains("rollcall_entries_removed_total 448"), "{metrics}");
    assert!(metrics.contains("rollcall_messages_removed_total 448"), "{metrics}");
    let (code, text) = said(&mut rollcall("doctor", &store));
    assert!(code == Some(0) && text.contains("at entry 448 of"), "{text}");
    drop(host);
    // Without the flag it stays as it is; a copy of it too.
    let host = Process::start("serve", &store);
    assert_eq!(counted(&host), before);
    let copy = tempfile::tempdir().unwrap();
    let mut backup = rollcall("backup", &store);
    let (code, text) = said(backup.arg("--to").arg(copy.path()));
    assert_eq!(code, Some(0), "{text}");
    drop(host);
    let copied = Process::start("serve", &format!("redb:{}", copy.path().display()));
    assert_eq!(counted(&copied), before);
    assert!(copied.get("/v1/messages?start=0&end=9999999999").contains(" 410 "));
}

#[test]
fn a_store_says_by_its_format_that_messages_were_removed() {
    use redb::{ReadableDatabase, TableDefinition};
    let mut random = common::random();
    let place = Redb::fresh();
    let format = || {
        let database = redb::Database::open(place.directory().join("rollcall.redb")).unwrap();
        let meta = TableDefinition::<&str, u64>::new("meta");
        let transaction = database.begin_read().unwrap();
        let format = transaction.open_table(meta).unwrap().get("format").unwrap().unwrap().value();
        (format, transaction.list_tables().unwrap().count())
    };
    run(async {
        let store = place.address().open().await.unwrap();
        assert_eq!(remove_old_once(&store, "31d".parse().unwrap(), UnixMs::now()).await.unwrap(), 0);
    });
    let (whole, tables) = format();
    run(cut(&mut random, &place.address()));
    assert_eq!(format(), (whole + 1, tables + 2));
}

#[test]
fn a_start_of_a_log_that_is_damaged_is_named_and_nothing_is_changed() {
    let mut random = common::random();
    let place = Redb::fresh();
    let address = place.address();
    run(cut(&mut random, &address));
    damage::redb(&mut random, place.directory(), "progress", Damage::Changed);
    common::older::change(place.directory(), |transaction| {
        let mut starts = transaction.open_table(redb::TableDefinition::<u8, &[u8]>::new("starts")).unwrap();
        let slot = Slot::of(&device(1)).index() as u8;
        let mut value = redb::ReadableTable::get(&starts, slot).unwrap().unwrap().value().to_vec();
        value[0] ^= 1;
        starts.insert(slot, value.as_slice()).unwrap();
    });
    let file = place.directory().join("rollcall.redb");
    let before = fs::read(&file).unwrap();
    let failed = run(repair(&address)).unwrap_err().to_string();
    let named = format!("the start of the log of slot {}", Slot::of(&device(1)));
    assert!(failed.contains(&named), "{failed}");
    assert!(fs::read(&file).unwrap() == before);
}

/// Each minute of an hour stands under the number of the next one: the sum is the same.
#[cfg(feature = "mongodb")]
#[test]
fn minutes_that_a_kept_hour_has_wrong_are_noticed_and_gone_after_a_repair() {
    use mongodb::bson::{Document, doc};
    if !common::place::Mongo::available() {
        return;
    }
    let mut random = common::random();
    let place = common::place::Mongo::fresh();
    let address = place.address();
    run(async {
        let records = cut(&mut random, &address).await;
        let hours = place.database().await.collection::<Document>("hours");
        let hour = hours.find_one(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().unwrap();
        let one = doc! { "_id": hour.get_i64("_id").unwrap() };
        let minutes = hour.get_document("minutes").unwrap();
        let next = |minute: &str| ((minute.parse::<u32>().unwrap() + 1) % 60).to_string();
        let moved: Document = minutes.iter().map(|(minute, counts)| (next(minute), counts.clone())).collect();
        hours.update_one(one.clone(), doc! { "$set": { "minutes": moved } }).await.unwrap();
        assert!(wrong(&address).await[0].contains("do not add up"));
        repair(&address).await.unwrap();
        assert!(!hours.find_one(one).await.unwrap().unwrap().contains_key("minutes"));
        assert_eq!(errors(&address, &records).await, Vec::<String>::new());
        assert_eq!(wrong(&address).await, Vec::<String>::new());
    });
}

fn windows_of_devices_that_stay_damaged_keep_nothing_from_being_stored<P: Place>() {
    let mut random = common::random();
    let place = P::fresh();
    let address = place.address();
    run(async {
        cut(&mut random, &address).await;
        for _ in 0..400 {
            place.damage(&mut random, "device_hours", Damage::Changed).await;
        }
        repair(&address).await.unwrap();
        assert!(!wrong(&address).await.is_empty());
        go_on(&mut random, &Arc::new(address.open().await.unwrap())).await;
    });
}

fn a_store_of_a_format_before_that_has_removed_messages_is_converted<P: Place>() {
    P::ONLY_RENUMBERED.iter().for_each(|format| converted::<P>(format + 1));
}

fn converted<P: Place>(format: u64) {
    let mut random = common::random();
    let place = P::fresh();
    let address = place.address();
    run(async {
        let records = cut(&mut random, &address).await;
        place.age(format).await;
        assert!(refusal(&address).await.contains("rollcall migrate"));
        assert!(migrate(&address).await.unwrap(), "nothing to convert");
        assert_eq!(wrong(&address).await, Vec::<String>::new());
        assert_eq!(errors(&address, &records).await, Vec::<String>::new());
        go_on(&mut random, &Arc::new(address.open().await.unwrap())).await;
        assert_eq!(wrong(&address).await, Vec::<String>::new());
    });
}

/// As `--store` takes it.
fn argument(address: &StoreAddress) -> String {
    match address {
        StoreAddress::Redb(directory) => format!("redb:{}", directory.display()),
        #[cfg(feature = "mongodb")]
        StoreAddress::Mongo(address) => address.to_string(),
    }
}

fn a_process_that_is_killed_while_it_removes_messages_leaves_the_rest_to_the_next<P: Place>() {
    let mut random = common::random();
    let place = P::fresh();
    let address = place.address();
    let now = UnixMs::now();
    let mut records = Vec::new();
    run(async {
        let mut ingest = Ingest::open(Arc::new(address.open().await.unwrap())).await.unwrap();
        // In every slot.
        for nth in 0..300 {
            let at = UnixMs(now.0 - 60 * DAY_MS + nth * 4 * HOUR_MS);
            let some = (0..80).map(|number| Record {
                sampled_at: at,
                received_at: at,
                ..sample(&mut random, number, nth)
            });
            let some: Vec<_> = some.collect();
            ingest.commit(&some, at).await.unwrap();
            records.extend(some);
        }
        ingest.roll().await.unwrap();
        ingest.write_all_rows().await.unwrap();
    });
    let starts = || {
        run(async {
            let store = address.open().await.unwrap();
            let mut starts = Vec::new();
            for slot in Slot::all() {
                starts.push(store.start(slot).await.unwrap().first);
            }
            starts
        })
    };
    let (mut before, mut kills) = (starts(), 0);
    // 174 entries of each slot are old enough.
    while before.iter().sum::<u64>() < Slot::COUNT as u64 * 128 {
        let mut serve = rollcall("serve", &argument(&address));
        serve.args(["--keep-messages", "31d"]);
        let host = Process::start_as(serve);
        while host.get("/metrics").contains("rollcall_entries_removed_total 0") {
            std::thread::yield_now();
        }
        // By SIGKILL.
        drop(host);
        let after = starts();
        assert!(after.iter().sum::<u64>() > before.iter().sum(), "{before:?} {after:?}");
        (before, kills) = (after, kills + 1);
    }
    println!("killed {kills} times");
    run(async {
        let store = Arc::new(address.open().await.unwrap());
        remove_old_once(&*store, "31d".parse().unwrap(), now).await.unwrap();
        let plan = Plan::new(0..4_000_000_000);
        assert_eq!(
            total(&plan, &store.view(&plan).await.unwrap()),
            brute_force(&records, &(0..4_000_000_000))
        );
        let mut ingest = Ingest::open(store).await.unwrap();
        records.retain(|record| record.received_at.0 + 30 * DAY_MS > now.0);
        let verdicts = ingest.commit(&records, now).await.unwrap();
        let new = records.iter().zip(&verdicts).filter(|(_, verdict)| **verdict != Verdict::Duplicate);
        assert_eq!(new.collect::<Vec<_>>(), []);
        drop(ingest);
        assert_eq!(wrong(&address).await, Vec::<String>::new());
    });
}

#[cfg(feature = "mongodb")]
#[test]
fn a_host_that_slept_while_messages_went_takes_no_number_that_is_gone() {
    use common::place::Mongo;
    use rollcall_host::model::{Entry, WriterId};
    if !Mongo::available() {
        return;
    }
    let mut random = common::random();
    let place = Mongo::fresh();
    let address = place.address();
    run(async {
        let asleep = address.open().await.unwrap();
        let entry = |slot, number, records| {
            let (received_at, log_time) = (UnixMs(BEGIN_MS), UnixMs(BEGIN_MS));
            Entry { slot, number, writer: WriterId::NOBODY, received_at, log_time, records }
        };
        // It knows where logs start, and its clocks stand still from here on.
        let used = [0, 1, 2, 99].map(|number| Slot::of(&device(number)));
        let other = Slot::all().find(|slot| !used.contains(slot)).unwrap();
        assert_eq!(asleep.append(&[entry(other, 0, Vec::new())]).await.unwrap(), []);
        let records = cut(&mut random, &address).await;
        let late = sample(&mut random, 1, 0);
        assert_eq!(asleep.append(&[entry(used[1], 5, vec![late])]).await.unwrap(), [used[1]]);
        assert_eq!(errors(&address, &records).await, Vec::<String>::new());
    });
}
