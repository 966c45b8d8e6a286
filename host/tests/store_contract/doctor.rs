//! What doctor says of a store.

use super::*;

/// What it says is wrong.
pub(crate) async fn wrong<F: Fixture>(fixture: &F) -> Vec<String> {
    let (sender, reports) = mpsc::channel(1000);
    fixture.checks(sender).await;
    common::failures(reports).await
}

pub(crate) async fn doctor_finds_nothing_wrong_with_what_an_ingest_wrote<F: Fixture>() {
    let mut random = common::random();
    let fixture = Arc::new(F::fresh().await);
    assert_eq!(wrong(&*fixture).await, Vec::<String>::new(), "of an empty store");
    let mut ingest = Ingest::open(Arc::new(Link(fixture.clone()))).await.unwrap();
    for flush in 0..200 {
        let records: Vec<_> = (0..30)
            .map(|number| {
                let mut record = record(&mut random, common::device(number % 10), flush * 30 + number);
                // Several boots of a device in one flush, the newest not always last.
                record.id = record.id.map(|id| SampleId { boot: BootId(random.u64(..40)), ..id });
                record.kind = if random.u8(..20) == 0 { RecordKind::Imported } else { RecordKind::Sample };
                record
            })
            .collect();
        ingest.commit(&records, UnixMs(common::START_S * 1000 + flush)).await.unwrap();
        ingest.roll().await.unwrap();
        if random.u8(..10) == 0 {
            ingest.write_all_rows().await.unwrap();
            assert_eq!(wrong(&*fixture).await, Vec::<String>::new(), "after flush {flush}");
        }
    }
    ingest.write_all_rows().await.unwrap();
    assert_eq!(wrong(&*fixture).await, Vec::<String>::new());
}

pub(crate) async fn doctor_names_a_window_and_a_row_that_are_not_as_the_log_says<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let (entries, mut chunks) = chunks(&mut random, fixture.store(), 3, 1).await;
    let mut chunk = chunks.remove(0);
    // One sample of the chunk is counted in another second.
    let (second, counts) = chunk.counts.pop_first().unwrap();
    *chunk.counts.entry(second + 1).or_default() += counts;
    fixture.store().apply(&[chunk]).await.unwrap();
    let mut partition = Partition::restore(Slot::new(3).unwrap(), Checkpoint::default());
    for entry in entries {
        partition.apply(&Entry { records: entry.records[1..].to_vec(), ..entry }).unwrap();
    }
    partition.begin_sweep();
    fixture.store().write_rows(&[partition.write(9).unwrap()]).await.unwrap();
    let wrong = wrong(&fixture).await;
    let at = UnixMs(second * 1000).to_rfc3339();
    assert!(
        wrong.iter().any(|wrong| wrong.starts_with(&format!("windows: the second at {at}"))),
        "{wrong:?}"
    );
    let row = format!("rows of devices: the row of device {}", device_of(3));
    assert!(wrong.iter().any(|wrong| wrong.starts_with(&row)), "{wrong:?}");
}
