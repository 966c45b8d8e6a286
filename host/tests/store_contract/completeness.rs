//! What is missing and what is unknown, against a list of every sample that was or may have been taken.

use std::collections::BTreeMap;

use rollcall_host::fleet::{self, Absent, Steps};
use rollcall_host::log::devices;
use rollcall_host::model::TimeError;

use super::*;

const START_MS: u64 = common::START_S * 1000;

/// Samples of a device's boots, one after the other; some were lost, and some come late.
fn taken(random: &mut fastrand::Rng, device: DeviceId) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = START_MS + random.u64(..300_000);
    for boot in 0..random.u64(1..6) {
        let period_ms = random.choice([500, 1_000, 1_300, 20_000]).unwrap();
        let samples = random.u64(1..80);
        let lost = random.u8(1..8);
        for seq in (0..samples).filter(|_| random.u8(..8) >= lost).collect::<Vec<_>>() {
            let sampled_at = at + seq * period_ms + random.u64(..period_ms / 4);
            let held_up_ms = if random.u8(..4) == 0 { random.u64(..900_000) } else { random.u64(..2_000) };
            let id = SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() };
            records.push(Record {
                id: (random.u8(..20) > 0).then_some(id),
                sampled_at: UnixMs(sampled_at),
                received_at: UnixMs(sampled_at + held_up_ms),
                kind: if random.u8(..20) == 0 { RecordKind::Undecided } else { RecordKind::Sample },
                time_error: TimeError::Exact,
                ..record(random, device, 0)
            });
        }
        at += samples * period_ms + random.u64(..120_000);
    }
    records
}

/// When samples were taken that are missing, and when there may have been others, before `end`.
fn listed(log: &[Record], as_of: u64, end: u64) -> (Vec<u64>, Vec<u64>) {
    // The one that was heard last stands last.
    let mut boots = Vec::<(BootId, BTreeMap<u64, u64>)>::new();
    for record in log.iter().filter(|record| record.kind == RecordKind::Sample) {
        let Some(id) = record.id else { continue };
        let at = boots.iter().position(|(boot, _)| *boot == id.boot);
        let mut samples = at.map_or_else(BTreeMap::new, |at| boots.remove(at).1);
        samples.entry(id.seq.get()).or_insert(record.sampled_at.0);
        boots.push((id.boot, samples));
    }
    let period = |samples: &BTreeMap<u64, u64>| {
        let ((first, first_at), (last, last_at)) = (samples.first_key_value()?, samples.last_key_value()?);
        let period = ((last_at - first_at) as f64
            / last.checked_sub(*first).filter(|steps| *steps > 0)? as f64)
            .round();
        Some(period as u64)
    };
    let latest = boots.iter().rev().find_map(|(_, samples)| period(samples));
    boots.sort_by_key(|(_, samples)| *samples.first_key_value().unwrap().1);
    let (mut missing, mut unknown, mut ended) = (Vec::new(), Vec::new(), None);
    for (_, samples) in &boots {
        for ((before, before_at), (behind, behind_at)) in samples.iter().zip(samples.iter().skip(1)) {
            let lost = behind - before - 1;
            missing.extend((1..=lost).map(|nth| before_at + (behind_at - before_at) * nth / (lost + 1)));
        }
        let Some(period_ms) = period(samples).or(latest) else { continue };
        let (first, first_at) = samples.first_key_value().unwrap();
        let ended_at = ended.map_or(0, |(at, _)| at);
        let back = (1..=*first).map_while(|nth| first_at.checked_sub(nth * period_ms));
        let back: Vec<_> = back.take_while(|at| *at > ended_at).collect();
        if let Some((at, period_ms)) = ended {
            let begin = back.last().unwrap_or(first_at);
            unknown.extend((1..).map(|nth| at + nth * period_ms).take_while(|at| at < begin));
        }
        unknown.extend(back);
        ended = Some((*samples.last_key_value().unwrap().1, period_ms));
    }
    if let Some((at, period_ms)) = ended {
        unknown.extend((1..).map(|nth| at + nth * period_ms).take_while(|at| *at < as_of.min(end)));
    }
    (missing, unknown)
}

/// So many of these lie in each step.
fn by_step(instants: &[u64], range: &Range<u64>, step_s: u64) -> Vec<u64> {
    let first = range.start - range.start % step_s;
    let steps = (first..range.end).step_by(step_s as usize).filter(|_| !range.is_empty());
    let within = |start: u64| {
        let step = range.start.max(start)..range.end.min(start + step_s);
        instants.iter().filter(|at| step.contains(&(**at / 1000))).count() as u64
    };
    steps.map(within).collect()
}

async fn assert_complete<S: LogStore>(random: &mut fastrand::Rng, store: &S, ids: &[DeviceId]) {
    let bound = |random: &mut fastrand::Rng| common::START_S - 200 + random.u64(..3_000);
    let (a, b) = (bound(random), bound(random));
    let range = a.min(b)..a.max(b);
    let step_s = random.choice([60, 60, 7, 300, 100_000]).unwrap();
    let steps = Steps::every(&range, step_s);
    let now = UnixMs(START_MS + random.u64(..5_000_000));
    let of_fleet = fleet::absent(store, &steps, now).await.unwrap();
    let whole = fleet::absent(store, &Steps::one(&range), now).await.unwrap();
    let minutes = (range.start / 60) as u32..range.end.div_ceil(60) as u32;
    let read = devices::read(store, ids, &minutes, now).await.unwrap();
    let mut sum = Absent::new(&steps);
    for (device, view) in ids.iter().zip(&read.value) {
        let slot = Slot::of(device);
        let upto =
            view.row.as_ref().map_or(0, |row| row.upto).max(store.checkpoint(slot).await.unwrap().rows);
        let entries = store.read(slot, 0, usize::MAX).await.unwrap();
        let (below, beyond) = entries.split_at(upto as usize);
        assert!(beyond.first().is_none_or(|first| of_fleet.as_of <= first.received_at));
        let log: Vec<_> = below.iter().flat_map(|entry| &entry.records).copied().collect();
        let log: Vec<_> = log.into_iter().filter(|record| record.device == *device).collect();
        for as_of in [of_fleet.as_of, read.as_of] {
            let (missing, unknown) = listed(&log, as_of.0, range.end * 1000);
            let expected = (by_step(&missing, &range, step_s), by_step(&unknown, &range, step_s));
            let absent = fleet::absent_of(view, &steps, as_of).unwrap();
            assert_eq!((absent.missing, absent.unknown), expected, "{device} {range:?} by {step_s} s");
            if as_of == of_fleet.as_of {
                sum.missing.iter_mut().zip(expected.0).for_each(|(sum, more)| *sum += more);
                sum.unknown.iter_mut().zip(expected.1).for_each(|(sum, more)| *sum += more);
            }
            if of_fleet.as_of == read.as_of {
                break;
            }
        }
    }
    assert_eq!(of_fleet.value, sum, "{range:?} by {step_s} s");
    let all = |numbers: &[u64]| numbers.iter().sum::<u64>();
    assert_eq!(all(&whole.value.missing), all(&sum.missing), "{range:?}");
    assert_eq!(all(&whole.value.unknown), all(&sum.unknown), "{range:?}");
}

pub(crate) async fn what_is_missing_agrees_with_the_oracle_through_late_samples_reboots_and_restarts<
    F: Fixture,
>() {
    let mut random = common::random();
    let mut fixture = Arc::new(F::fresh().await);
    let ids: Vec<_> = (0..10).map(common::device).collect();
    let mut records: Vec<_> = ids[1..].iter().flat_map(|device| taken(&mut random, *device)).collect();
    records.sort_by_key(|record| record.received_at);
    let lives = records.chunks(records.len().div_ceil(4)).map(<[Record]>::to_vec).collect::<Vec<_>>();
    for life in lives {
        let link = Arc::new(Link(fixture.clone()));
        let mut ingest = Ingest::open(link.clone()).await.unwrap();
        for some in life.chunks(random.usize(3..40)) {
            let mut some = some.to_vec();
            // Some come again.
            some.extend(random.choice(&records).filter(|record| record.received_at < some[0].received_at));
            let received_at = some.iter().map(|record| record.received_at).max().unwrap();
            ingest.commit(&some, received_at).await.unwrap();
            match random.u8(..8) {
                0..4 => ingest.roll().await.unwrap(),
                4..6 => ingest.write_all_rows().await.unwrap(),
                _ => {}
            }
            if random.u8(..4) == 0 {
                assert_complete(&mut random, fixture.store(), &ids).await;
            }
        }
        drop((ingest, link));
        let Ok(alone) = Arc::try_unwrap(fixture) else { panic!("the store is in use") };
        fixture = Arc::new(alone.reopened().await);
        assert_complete(&mut random, fixture.store(), &ids).await;
    }
    let mut ingest = Ingest::open(Arc::new(Link(fixture.clone()))).await.unwrap();
    ingest.write_all_rows().await.unwrap();
    for _ in 0..10 {
        assert_complete(&mut random, fixture.store(), &ids).await;
    }
    let everything = Steps::one(&(0..4_000_000_000));
    let absent = fleet::absent(fixture.store(), &everything, UnixMs(0)).await.unwrap().value;
    assert!(absent.missing[0] > 0, "nothing is missing");
}
