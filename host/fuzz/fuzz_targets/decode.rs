//! Any message is a record or a named rejection. The input: an expiry interval, a topic, a line end, a payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::intake::decode::{Decoded, decode};
use rollcall_host::model::{Incoming, Retain, UnixMs};

fuzz_target!(|input: &[u8]| {
    let Some((expiry, rest)) = input.split_first_chunk::<4>() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let Ok(topic) = std::str::from_utf8(&rest[..end]) else { return };
    let message = Incoming {
        topic,
        payload: rest.get(end + 1..).unwrap_or_default(),
        retain: Retain::No,
        expiry_left_s: Some(u32::from_le_bytes(*expiry)),
        received_at: UnixMs(1_700_000_000_000),
    };
    if let Ok(Decoded::Sample(record, _)) = decode(&message) {
        assert!(record.sampled_at <= message.received_at && record.status.get() < 7);
    }
});
