//! For fuzzing, and no part of the interface: the pump, and the reader of certificates.

use crate::certificate::public_key;
use crate::error::Failure;
use crate::pins::PIN_SIZE;
use crate::tunnel::INWARD_SIZE;
use crate::wire::Inward;

/// Hands `record` what the pump has for TLS of `bytes`, taken in pieces of `piece` bytes at most; the handshake is
/// over after `handshake` records.
///
/// # Errors
/// Why it would not go on.
pub fn pumped(
    bytes: &[u8],
    piece: usize,
    handshake: usize,
    mut record: impl FnMut(&[u8]),
) -> Result<(), Failure> {
    let (mut inward, mut rest, mut count) = (Inward::<INWARD_SIZE>::new(), bytes, 0);
    while !rest.is_empty() {
        let room = inward.room();
        let (now, later) = rest.split_at(room.len().min(rest.len()).min(piece.max(1)));
        room[..now.len()].copy_from_slice(now);
        rest = later;
        inward.filled(now.len())?;
        if inward.has_record() {
            let mut whole = [0; INWARD_SIZE];
            let mut at = 0;
            while inward.has_record() {
                at += inward.take_record(&mut whole[at..]);
            }
            record(&whole[..at]);
            count += 1;
            if count == handshake {
                inward.open();
            }
        }
    }
    Ok(())
}

/// The point of a certificate's key, which is read before anything is proved.
pub fn key_of(certificate: &[u8]) -> Option<&[u8; PIN_SIZE]> {
    public_key(certificate)
}
