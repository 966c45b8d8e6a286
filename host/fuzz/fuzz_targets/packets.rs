//! Whatever a client says, it hears whole packets that a server may send, a CONNACK first, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::source::gateway::answers;

/// CONNACK, then PUBACK, PUBCOMP, SUBACK, UNSUBACK, PINGRESP and DISCONNECT.
const CONNACK: u8 = 0x20;
const LATER: [u8; 6] = [0x40, 0x70, 0x90, 0xb0, 0xd0, 0xe0];

fuzz_target!(|said: &[u8]| {
    let heard = answers(said);
    let mut rest = heard.as_slice();
    while let [kind, after @ ..] = rest {
        let first = rest.len() == heard.len();
        assert!(if first { *kind == CONNACK } else { LATER.contains(kind) }, "{heard:02x?}");
        let last = after.iter().position(|byte| byte & 0x80 == 0).expect("a length ends");
        let length = after[..=last].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        rest = after[last + 1..].get(length..).expect("a packet is whole");
    }
});
