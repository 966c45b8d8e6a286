//! Any bytes are what is known of a device or nothing; a row that can be read takes a sample and can be written. The
//! input: how long the first part is, the device's state, its closed boots.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::intake::seen::{Seen, Sighting};
use rollcall_host::log::row::{ClosedBoots, DeviceState, Row};
use rollcall_host::model::{Record, RecordKind, TimeError, UnixMs};
use rollcall_wire::{BootId, DeviceId, SampleId, Sequence, Status};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let (state, closed) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    if let Some(read) = DeviceState::from_bytes(state) {
        assert_eq!(DeviceState::from_bytes(&read.to_bytes()), Some(read));
    }
    if let Some(read) = ClosedBoots::from_bytes(closed) {
        assert_eq!(ClosedBoots::from_bytes(&read.to_bytes()), Some(read));
    }
    let closed = (!closed.is_empty()).then(|| closed.to_vec());
    let row = Row { device: DeviceId::new("porch").unwrap(), upto: 1, state: state.to_vec(), closed };
    let mut seen = Seen::default();
    if seen.restore(&row) {
        goes_on(row, seen);
    }
});

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
    seen.record(&record, at);
    let after = seen.check(&row.device, id);
    assert!(after == Sighting::Counted || before == Sighting::CannotTell, "{before:?}, then {after:?}");
    // Closed boots that did not change are not written again.
    let written = seen.row(row.device, 2);
    let written = Row { closed: written.closed.or(row.closed), ..written };
    let mut again = Seen::default();
    assert!(again.restore(&written) && again.check(&row.device, id) == after);
}
