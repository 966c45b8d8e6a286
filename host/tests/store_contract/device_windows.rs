//! Rows of devices and their windows.

use rollcall_host::log::devices;

use super::*;

/// Each device answers as what is in the log below its row's `upto`, and says as of when that is.
pub(crate) async fn assert_device_counts<S: LogStore>(
    random: &mut fastrand::Rng,
    store: &S,
    ids: &[DeviceId],
) {
    let now = UnixMs(u64::MAX);
    let first = (common::START_S / 60) as u32;
    let bound = |random: &mut fastrand::Rng| first + random.u32(..5 * 1440);
    let (a, b) = (bound(random), bound(random));
    let range = a.min(b)..a.max(b);
    let all = devices::read(store, ids, &range, now).await.unwrap();
    for (device, view) in ids.iter().zip(all.value) {
        let slot = Slot::of(device);
        let upto =
            view.row.as_ref().map_or(0, |row| row.upto).max(store.checkpoint(slot).await.unwrap().rows);
        let entries = store.read(slot, 0, usize::MAX).await.unwrap();
        let (below, beyond) = entries.split_at(upto as usize);
        let records: Vec<_> = below.iter().flat_map(|entry| &entry.records).copied().collect();
        let of_device = || records.iter().filter(|record| record.device == *device);
        let seconds = |minutes: &Range<u32>| u64::from(minutes.start) * 60..u64::from(minutes.end) * 60;
        assert_eq!(
            view.counts(&range).unwrap(),
            brute_force(of_device(), &seconds(&range)),
            "{device} {range:?}"
        );
        assert!(beyond.first().is_none_or(|first| all.as_of <= first.received_at), "{:?}", all.as_of);
        let step = random.u32(1..500);
        let first = range.start - range.start % step;
        let buckets = (first..range.end)
            .step_by(step as usize)
            .map(|start| range.start.max(start)..range.end.min(start + step))
            .filter(|_| !range.is_empty());
        let expected: Vec<_> = buckets.map(|bucket| brute_force(of_device(), &seconds(&bucket))).collect();
        assert_eq!(view.series(&range, step).unwrap(), expected, "{device} {range:?} {step}");
    }
}

pub(crate) async fn device_counts_agree_with_the_oracle_through_late_samples_and_restarts<F: Fixture>() {
    let mut random = common::random();
    let mut fixture = Arc::new(F::fresh().await);
    let ids: Vec<_> = (0..12).map(common::device).collect();
    let mut at = 0;
    for _ in 0..4 {
        let link = Arc::new(Link(fixture.clone()));
        let mut ingest = Ingest::open(link.clone()).await.unwrap();
        for _ in 0..random.usize(30..90) {
            at += 1;
            let records: Vec<_> = (0..30)
                .map(|_| {
                    // Most of them as time goes on, some at any time before.
                    let late_s =
                        if random.u8(..6) == 0 { random.u64(..common::SPAN_S) } else { random.u64(..60) };
                    let sampled_s = (common::START_S + at * 300).saturating_sub(late_s).max(common::START_S);
                    let device = *random.choice(&ids[1..]).unwrap();
                    let id = SampleId {
                        boot: BootId(random.u64(..3)),
                        seq: Sequence::new(random.u64(..2_000)).unwrap(),
                    };
                    let id = (random.u8(..9) > 0).then_some(id);
                    Record { id, sampled_at: UnixMs(sampled_s * 1000), ..record(&mut random, device, 0) }
                })
                .collect();
            ingest.commit(&records, UnixMs((common::START_S + at) * 1000)).await.unwrap();
            match random.u8(..12) {
                0..6 => ingest.roll().await.unwrap(),
                6..8 => ingest.write_all_rows().await.unwrap(),
                8 => assert_device_counts(&mut random, fixture.store(), &ids).await,
                _ => {}
            }
        }
        assert_device_counts(&mut random, fixture.store(), &ids).await;
        drop((ingest, link));
        let Ok(alone) = Arc::try_unwrap(fixture) else { panic!("the store is in use") };
        fixture = Arc::new(alone.reopened().await);
    }
    let mut ingest = Ingest::open(Arc::new(Link(fixture.clone()))).await.unwrap();
    ingest.write_all_rows().await.unwrap();
    assert_device_counts(&mut random, fixture.store(), &ids).await;
    let views = fixture.store().devices(&ids, 0..u32::MAX).await.unwrap();
    assert!(views.iter().filter(|view| !view.windows.is_empty()).count() > 8, "nothing was sealed");
    assert_eq!(wrong(&*fixture).await, Vec::<String>::new());
}

/// Two processes that write the same slot have sealed the same, and neither knows what the other has stored.
pub(crate) async fn what_is_sealed_is_added_to_hours_once_whoever_does_it<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let (entries, _) = chunks(&mut random, fixture.store(), 3, 2).await;
    let slot = entries[0].slot;
    let mut partitions = [(); 2].map(|()| Partition::restore(slot, Checkpoint::default()));
    let mut applied = [0; 2];
    while applied[0] < entries.len() || applied[1] < entries.len() {
        let which = random.usize(..2);
        let (partition, next) = (&mut partitions[which], &mut applied[which]);
        for entry in entries.iter().skip(*next).take(random.usize(..20)) {
            partition.apply(entry).unwrap();
            *next += 1;
        }
        partition.begin_sweep();
        let write = partition.write(9).unwrap();
        fixture.store().write_rows(&[write]).await.unwrap();
        // The answer may be lost.
        if random.bool() {
            partition.written();
        } else {
            partition.abandon_sweep();
            assert!(!partition.lacks_sealed());
        }
        assert_device_counts(&mut random, fixture.store(), &[device_of(3)]).await;
    }
}
