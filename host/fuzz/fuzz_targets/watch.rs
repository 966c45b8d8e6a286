//! Whatever a broker sends, and in whatever pieces, is watched as a plain reader of MQTT's packets would. The input: the
//! size of a piece, what the broker sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_device::fuzz::watched;

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    assert_eq!(watched(bytes, usize::from(*piece)), plainly(bytes));
});

/// The last reason of a PUBACK that is no success, and the last of a DISCONNECT.
fn plainly(mut bytes: &[u8]) -> (Option<u8>, Option<u8>) {
    let (mut refusal, mut disconnect) = (None, None);
    while let [kind, rest @ ..] = bytes {
        let Some(last) = rest.iter().take(4).position(|byte| byte & 0x80 == 0) else { break };
        let length = rest[..=last].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        let body = &rest[last + 1..];
        let (body, rest) = body.split_at(length.min(body.len()));
        match (kind >> 4, body) {
            (4, [_, _, reason, ..]) if *reason != 0 => refusal = Some(*reason),
            (14, [reason, ..]) => disconnect = Some(*reason),
            _ => {}
        }
        bytes = rest;
    }
    (refusal, disconnect)
}
