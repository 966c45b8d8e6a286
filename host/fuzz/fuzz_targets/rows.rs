//! Any bytes are what is known of a device or nothing; a row that can be read takes a sample and can be written. So are
//! counts by minute. The input: how long the first part is, the device's state, its closed boots.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::intake::seen::{Seen, Sighting};
use rollcall_host::log::minutes::Minutes;
use rollcall_host::log::row::{ClosedBoots, DeviceState, Row};
use rollcall_host::model::{Counts, Entry, Record, RecordKind, TimeError, UnixMs, WriterId};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Slot, Status};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let (state, closed) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    if let Some(read) = DeviceState::from_bytes(state) {
        assert_eq!(DeviceState::from_bytes(&read.to_bytes()), Some(read));
    }
    if let Some(read) = ClosedBoots::from_bytes(closed) {
        assert_eq!(ClosedBoots::from_bytes(&read.to_bytes()), Some(read));
    }
    for bytes in [state, closed] {
        if let Some(minutes) = Minutes::from_bytes(bytes) {
            adds_up(minutes);
        }
    }
    let closed = (!closed.is_empty()).then(|| closed.to_vec());
    let device = DeviceId::new("porch").unwrap();
    let row = Row { device, upto: 1, state: state.to_vec(), sealed: Vec::new(), closed };
    let mut seen = Seen::default();
    if seen.restore(&row) {
        goes_on(row, seen);
    }
});

/// One more is one more, and it is read as it was written.
fn adds_up(mut minutes: Minutes) {
    let total =
        |minutes: &Minutes| minutes.iter().map(|(_, counts)| u128::from(counts.total())).sum::<u128>();
    let before = total(&minutes);
    let mut one = Counts::default();
    one.statuses[3] = 1;
    minutes.add(7, &one);
    assert_eq!(total(&minutes), before + 1);
    assert_eq!(Minutes::from_bytes(minutes.as_bytes()), Some(minutes));
}

fn goes_on(row: Row, mut seen: Seen) {
    let id = SampleId { boot: BootId(7), seq: Sequence::new(9).unwrap() };
    let at = UnixMs(1_700_000_000_000);
    let record = Record {
        device: row.device,
        id: Some(id),
        status: Status::new(3).unwrap(),
        kind: RecordKind::Sample,
        sampled_at: at,
        time_error: TimeError::Exact,
        received_at: at,
    };
    let before = seen.check(&row.device, id);
    let slot = Slot::of(&row.device);
    let entry = Entry {
        slot,
        number: 1,
        writer: WriterId::NOBODY,
        received_at: at,
        log_time: at,
        records: vec![record],
    };
    seen.take(&entry, |_| true);
    let after = seen.check(&row.device, id);
    assert!(after == Sighting::Counted || before == Sighting::CannotTell, "{before:?}, then {after:?}");
    // Closed boots that did not change are not written again.
    let written = seen.row(row.device, 2);
    let written = Row { closed: written.closed.or(row.closed), ..written };
    let mut again = Seen::default();
    assert!(again.restore(&written) && again.check(&row.device, id) == after);
}
