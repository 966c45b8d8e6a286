//! A store beside the outbox: what it keeps comes back, and nothing is sent that it does not keep.

use embassy_futures::block_on;
use rollcall_device::flash::FlashStore;
use rollcall_device::outbox::Sample;
use rollcall_device::{RunId, Status};
use rollcall_wire::{Sequence, Taken};

use crate::support::flash::{Model, PAGES};
use crate::support::net::{Dial, Reply, accept, answering};
use crate::support::{BOOT, Bench, TestStore, bench, bench_with, config};

fn sample(seq: u64, taken_at_ms: u64) -> Sample {
    Sample { seq: Sequence::new(seq).unwrap(), status: Status::new(6).unwrap(), taken_at_ms }
}

#[test]
fn a_sample_is_sent_once_it_is_kept_and_not_before() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.store = Some(TestStore { takes_ms: 400, ..Default::default() });
    bench.run_until(2_399);
    assert_eq!(bench.net.sequence(), [0, 1]);
    let sent_at_ms: Vec<_> = bench.net.samples().iter().map(|(at_ms, ..)| *at_ms).collect();
    assert_eq!(sent_at_ms, [400, 1_400]);
    assert_eq!(bench.net.samples()[1].2.reading().age_ms, 400);
}

#[test]
fn what_the_store_refuses_is_counted_and_never_sent() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.store = Some(TestStore { refuses: vec![0, 2, 3], ..Default::default() });
    let stats = bench.run_and_stop(5_500, 8_000);
    assert_eq!(bench.net.sequence(), [1, 4, 5]);
    assert_eq!((stats.sampled, stats.unstored, stats.acknowledged), (6, 3, 3));
}

#[test]
fn restored_samples_go_first_in_order_with_their_own_numbers_and_numbers_go_on() {
    let mut bench: Bench<300> = bench(|_| accept());
    // As a ring in flash has them: a renewed one after the newer ones, and one twice.
    for seq in [41, 42, 40, 42] {
        bench.restore(sample(seq, 0));
    }
    let stats = bench.run_and_stop(2_500, 5_000);
    assert_eq!(bench.net.sequence(), [40, 41, 42, 43, 44, 45]);
    assert_eq!((stats.restored, stats.sampled, stats.acknowledged), (3, 3, 6));
}

#[test]
fn a_restored_sample_says_that_its_age_is_not_known_and_each_sample_in_which_run_it_is_sent() {
    let mut config = config();
    config.run = Some(RunId(7));
    let mut bench: Bench<300> = bench_with(config, |_| accept());
    (40..42).for_each(|seq| bench.restore(sample(seq, 0)));
    bench.run_and_stop(2_500, 5_000);
    let said: Vec<_> = bench.net.samples().iter().map(|(.., publish)| publish.reading()).collect();
    let earlier: Vec<_> = said.iter().map(|reading| reading.taken == Taken::EarlierRun).collect();
    assert_eq!(earlier, [true, true, false, false, false]);
    assert!(said.iter().all(|reading| reading.run == Some(RunId(7)) && reading.up_ms.is_some()));
}

#[test]
fn more_than_an_outbox_holds_is_counted_as_dropped() {
    let mut bench: Bench<10> = bench(|_| Dial::Refuse);
    (0..12).for_each(|seq| bench.restore(sample(seq, 0)));
    let stats = bench.run_until(500);
    assert_eq!((stats.restored, stats.sampled, stats.overflowed, stats.outbox), (12, 1, 3, 10));
}

#[test]
fn a_run_that_is_dropped_while_a_sample_is_stored_counts_it_and_skips_its_number() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.store = Some(TestStore { takes_ms: 400, ..Default::default() });
    bench.run_until(1_200);
    bench.store = None;
    let stats = bench.run_and_stop(3_500, 6_000);
    assert_eq!(stats.unstored, 1);
    let sequence = bench.net.sequence();
    assert!(sequence.starts_with(&[0, 2, 3]), "{sequence:?}");
}

#[test]
fn a_stop_while_a_sample_is_stored_counts_it() {
    let mut bench: Bench<300> = bench(|_| accept());
    bench.store = Some(TestStore { takes_ms: 400, ..Default::default() });
    let stats = bench.run_and_stop(1_200, 5_000);
    assert_eq!((stats.sampled, stats.unstored, stats.acknowledged), (2, 1, 1));
}

/// As few as an outbox can hold and have some to drop.
const OUTBOX: usize = 12;

#[test]
fn a_sample_that_was_refused_for_good_leaves_the_outbox_in_flash_as_an_acknowledged_one_does() {
    let kept_after = [(0, 4..=6), (0x90, 4..=6), (0x99, 4..=6), (0x97, 3..=6)];
    for (reason, kept) in kept_after {
        let flash = Model::new();
        let open = || block_on(FlashStore::<_, PAGES>::open(flash.clone(), 0, OUTBOX, BOOT)).unwrap();
        // Sample 3 is the one to look at, and what comes after it is left without an answer.
        let script = move |_| {
            Dial::Accept(answering(move |publish| match publish.is_status().then(|| publish.seq()) {
                Some(3) => Reply::Ack(reason),
                Some(4..) => Reply::Nothing,
                _ => Reply::Ack(0),
            }))
        };
        let mut bench: Bench<OUTBOX> = bench(script);
        bench.store = Some(TestStore { flash: Some(open()), ..Default::default() });
        bench.run_until(6_500);
        let mut restored = Vec::new();
        block_on(open().replay(|sample| restored.push(sample.seq.get()))).unwrap();
        assert_eq!(restored, kept.collect::<Vec<_>>(), "reason {reason:#04x}");
    }
}
