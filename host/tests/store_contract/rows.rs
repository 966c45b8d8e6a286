//! Rows of devices.

use super::*;

fn row(number: u64, upto: u64, state: u8, closed: Option<u8>) -> Row {
    let closed = closed.map(|byte| vec![byte]);
    Row { device: common::device(number), upto, sealed: Vec::new(), state: vec![state], closed }
}

pub(crate) async fn rows_come_back_in_the_order_of_their_devices_and_the_furthest_stays<F: Fixture>() {
    let fixture = F::fresh().await;
    let slot = Slot::new(3).unwrap();
    let write = |rows: Vec<Row>, checkpoint| RowWrite { slot, rows, checkpoint };
    let store = fixture.store();
    let first = [row(1, 5, 1, Some(9)), row(10, 5, 1, None), row(2, 7, 1, None)];
    store.write_rows(&[write(first.to_vec(), None)]).await.unwrap();
    assert_eq!(store.checkpoint(slot).await.unwrap(), Checkpoint::default());
    // One that is further and leaves its closed boots, one that is as far, and one that is less far and has some.
    let second = [row(1, 8, 2, None), row(10, 5, 2, None), row(2, 6, 2, Some(7))];
    store.write_rows(&[write(second.to_vec(), Some(5))]).await.unwrap();
    store.write_rows(&[write(Vec::new(), Some(4))]).await.unwrap();
    let other = RowWrite { slot: Slot::new(4).unwrap(), rows: vec![row(3, 1, 1, None)], checkpoint: None };
    store.write_rows(&[other]).await.unwrap();

    let fixture = fixture.reopened().await;
    let store = fixture.store();
    assert_eq!(store.checkpoint(slot).await.unwrap(), Checkpoint { windows: 0, rows: 5 }, "never back");
    let expected = [row(1, 8, 2, Some(9)), row(10, 5, 1, None), row(2, 7, 1, None)];
    assert_eq!(store.rows(slot, None, 100).await.unwrap(), expected);
    assert_eq!(store.rows(slot, None, 2).await.unwrap(), expected[..2]);
    assert_eq!(store.rows(slot, Some(expected[0].device), 100).await.unwrap(), expected[1..]);
    assert_eq!(store.rows(slot, Some(expected[2].device), 100).await.unwrap(), []);
}

pub(crate) async fn rows_of_all_slots_come_in_the_order_of_their_devices<F: Fixture>() {
    let mut random = common::random();
    let fixture = F::fresh().await;
    let store = fixture.store();
    let mut all = Vec::new();
    assert_eq!(store.first_rows(None, 10).await.unwrap(), []);
    for _ in 0..6 {
        // Some slots have most of the devices, and some of these have closed boots.
        for slot in Slot::all().filter(|_| random.u8(..3) == 0).collect::<Vec<_>>() {
            let most = random.choice([2, 30, 300]).unwrap();
            let numbers = (0..).filter(|number| Slot::of(&common::device(*number)) == slot);
            let mut rows: Vec<_> = numbers
                .take(random.usize(..most))
                .map(|number| {
                    let closed = (random.u8(..9) == 0).then_some(1);
                    let upto = random.u64(1..20);
                    // A row is a function of how far it is.
                    let state = vec![upto as u8; ((number + upto) % 200) as usize];
                    Row { state, ..row(number, upto, 0, closed) }
                })
                .collect();
            rows.sort_unstable_by_key(|row| row.device);
            store.write_rows(&[RowWrite { slot, rows, checkpoint: None }]).await.unwrap();
        }
        all.clear();
        for slot in Slot::all() {
            all.extend(store.rows(slot, None, usize::MAX).await.unwrap());
        }
        all.sort_unstable_by_key(|row| row.device);
        all.iter_mut().for_each(|row| row.closed = None);
        for _ in 0..20 {
            let from = random.usize(..=all.len());
            let after = match random.u8(..4) {
                0 => Some(common::device(random.u64(..5_000))),
                _ => from.checked_sub(1).map(|before| all[before].device),
            };
            let limit = random.choice([1, 2, 17, 100, 101, usize::MAX]).unwrap();
            let mut found = store.first_rows(after, limit).await.unwrap();
            found.iter_mut().for_each(|row| row.closed = None);
            let expected = all.iter().filter(|row| after.is_none_or(|after| row.device > after)).take(limit);
            assert!(found.iter().eq(expected), "{limit} after {after:?}");
        }
    }
    assert!(!all.is_empty());
}
