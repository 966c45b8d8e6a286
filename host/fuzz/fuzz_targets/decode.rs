//! Any message is a record or a named rejection. The input: an expiry interval, a topic, a line end, a payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::intake::decode::{Decoded, decode};
use rollcall_host::model::{Incoming, Retain, UnixMs};
use rollcall_wire::{Announcement, presence};

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
    match decode(&message) {
        Ok(Decoded::Sample(record, _)) => {
            assert!(record.sampled_at <= message.received_at && record.status.get() < 7);
        }
        Ok(Decoded::Presence(_, Some(Announcement { is_online, connection: Some(connection) }))) => {
            let again = presence::decode(presence::encode(is_online, &connection).as_bytes());
            assert_eq!(again, Some(Announcement { is_online, connection: Some(connection) }));
        }
        _ => {}
    }
});
