//! Whatever a server sends, and in whatever pieces, the device's TLS is handed whole records that may come, and no others;
//! whatever stands for a certificate, a key is read from it or not.
//! The input: the size of a piece, the records of the handshake, what the server sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_device_tls::INWARD_SIZE;
use rollcall_device_tls::fuzz::{key_of, pumped};

fuzz_target!(|input: &[u8]| {
    assert!(key_of(input).is_none_or(|point| input.windows(point.len()).any(|bytes| bytes == point)));
    let [piece, handshake, bytes @ ..] = input else { return };
    // Of more records than ten none is taken.
    let handshake = usize::from(*handshake % 11);
    let (mut records, mut at_once) = (Vec::new(), Vec::new());
    let outcome = pumped(bytes, usize::from(*piece), handshake, |record| records.push(record.to_vec()));
    assert_eq!(pumped(bytes, usize::MAX, handshake, |record| at_once.push(record.to_vec())), outcome);
    assert_eq!(records, at_once);
    let mut rest = bytes;
    for (number, record) in records.iter().enumerate() {
        // It means nothing and is not handed on.
        rest = rest.strip_prefix(&[20, 3, 3, 0, 1, 1]).unwrap_or(rest);
        let (sent, later) = rest.split_at(record.len());
        assert!(
            record.len() <= INWARD_SIZE
                && record.len() == 5 + usize::from(u16::from_be_bytes([sent[3], sent[4]]))
        );
        let is_open = handshake > 0 && number >= handshake;
        let expected = if number == 0 { [22, 3, 3] } else { [23, 3, 3 + u8::from(is_open)] };
        assert_eq!(record[..3], expected);
        assert_eq!((&sent[..3], &sent[3..]), (&[record[0], 3, 3][..], &record[3..]));
        rest = later;
    }
});
