use super::*;
use proptest::prelude::*;

fn record() -> impl Strategy<Value = Record> {
    let id = prop::option::of((0..3_u64, 0..=Sequence::MAX.get()));
    let at = prop_oneof![1_700_000_000_000..1_700_000_100_000_u64, any::<u32>().prop_map(u64::from)];
    let time_error = prop::sample::select(&[TimeError::Exact, TimeError::OneSecond, TimeError::Unknown][..]);
    let kind = prop::sample::select(&[RecordKind::Sample, RecordKind::Imported, RecordKind::Undecided][..]);
    (0..4_u8, id, 0..7_u8, at.clone(), at, time_error, kind).prop_map(
        |(device, id, status, sampled_at, received_at, time_error, kind)| Record {
            device: DeviceId::new(&format!("device-{device}")).unwrap(),
            id: id.map(|(boot, seq)| SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() }),
            status: Status::new(status).unwrap(),
            kind,
            sampled_at: UnixMs(sampled_at),
            time_error,
            received_at: UnixMs(received_at),
        },
    )
}

proptest! {
    #[test]
    fn an_entry_comes_back_sorted_by_stream(
        records in prop::collection::vec(record(), 0..50), log_time in 0..1_800_000_000_000_u64,
        writer in any::<u32>(),
    ) {
        let slot = Slot::new(5).unwrap();
        let received_at = UnixMs(1_700_000_050_000);
        let log_time = UnixMs(log_time);
        let mut sent = Entry { slot, number: 9, writer: WriterId(writer), received_at, log_time, records };
        let bytes = entry_bytes(&sent, &sent.counts());
        prop_assert_eq!(entry_counts(slot, 9, &bytes).unwrap(), sent.counts());
        for version in [ENTRY_VERSION_2, ENTRY_VERSION_3] {
            prop_assert_eq!(entry_counts(slot, 9, &as_version(version, &sent)).unwrap(), sent.counts());
        }
        sent.records.sort_by(|a, b| stream_key(a).cmp(&stream_key(b)));
        prop_assert_eq!(entry(slot, 9, &bytes).unwrap(), sent.clone());
        let sent = Entry { writer: WriterId::NOBODY, ..sent };
        prop_assert_eq!(entry(slot, 9, &as_version(ENTRY_VERSION_2, &sent)).unwrap(), sent);
    }

    #[test]
    fn a_minute_comes_back_in_todays_form_and_the_one_before(
        records in prop::collection::vec((record(), 0..60_u64), 1..50),
    ) {
        let mut counts = BySecond::new();
        for (record, second) in records {
            counts.entry(1_700_000_040 + second).or_default().count(&record);
        }
        let before = postcard::to_allocvec(&seconds(&counts)).unwrap();
        for bytes in [minute_bytes(1_700_000_040, &counts), before] {
            prop_assert_eq!(minute_sum(1_700_000_040, &bytes).unwrap(), model::sum(&counts, 0..u64::MAX));
            prop_assert_eq!(&minute(1_700_000_040, &bytes).unwrap(), &counts);
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let slot = Slot::new(0).unwrap();
        let _ = (entry(slot, 0, &bytes), entry_counts(slot, 0, &bytes));
        let _ = (minute(0, &bytes), minute_sum(0, &bytes));
    }
}

/// An entry in one of the two forms before today's, which did not count all there is.
fn as_version(version: u8, entry: &Entry) -> Vec<u8> {
    let mut counts = entry.counts();
    for counts in counts.values_mut() {
        (counts.late, counts.undecided) = (0, 0);
        if version == ENTRY_VERSION_2 {
            (counts.one_second, counts.unknown) = (0, 0);
        }
    }
    let mut bytes = entry_bytes(&Entry { writer: WriterId::NOBODY, ..entry.clone() }, &counts);
    bytes[0] = version;
    bytes.remove(1);
    bytes
}

#[test]
fn an_entry_of_the_first_form_is_read_with_its_own_time_as_log_time() {
    let at = 1_700_000_050_000_u64;
    let boot = Some(9_u64.to_le_bytes());
    let record = StoredRecord { status: 3 | ONE_SECOND, seq: 17, sampled: -50, received: -2 };
    let stream = StoredStream { device: "d", boot, records: vec![record] };
    let seconds: Vec<StoredSecond> = vec![(at / 1000 - 1, vec![(3, 1)])];
    let bytes = postcard::to_allocvec(&((at, &seconds), vec![stream])).unwrap();
    let slot = Slot::new(4).unwrap();
    let read = entry(slot, 2, &bytes).unwrap();
    assert_eq!((read.received_at, read.log_time), (UnixMs(at), UnixMs(at)));
    assert_eq!(read.records[0].sampled_at, UnixMs(at - 50));
    assert_eq!(
        (read.records[0].time_error, read.records[0].kind),
        (TimeError::OneSecond, RecordKind::Sample)
    );
    let mut counts = by_second(seconds).unwrap();
    counts.values_mut().for_each(|counts| counts.one_second = 1);
    assert_eq!(entry_counts(slot, 2, &bytes).unwrap(), counts);
}

#[test]
fn a_sample_of_a_full_flush_takes_few_bytes() {
    let records = (0..1_000_u64).map(|n| Record {
        device: DeviceId::new(if n % 3 == 0 { "sim-000123" } else { "sim-000124" }).unwrap(),
        id: Some(SampleId { boot: BootId(u64::MAX - n % 3), seq: Sequence::new(n / 3).unwrap() }),
        status: Status::new((n % 7) as u8).unwrap(),
        kind: RecordKind::Sample,
        sampled_at: UnixMs(1_700_000_000_000 + n),
        time_error: TimeError::Exact,
        received_at: UnixMs(1_700_000_000_000 + n),
    });
    let received_at = UnixMs(1_700_000_001_000);
    let slot = Slot::new(0).unwrap();
    let writer = WriterId(u32::MAX);
    let records = records.collect();
    let entry = Entry { slot, number: 0, writer, received_at, log_time: received_at, records };
    let bytes = entry_bytes(&entry, &entry.counts()).len();
    assert!(bytes < 6 * 1_000, "{bytes}");
}
