//! Readers of bytes for fuzzing, which are no part of the interface.

use embassy_futures::block_on;
use embedded_io_async::Read;

use crate::watch::{Seen, Watched};

pub use crate::flash::record_comes_back;

/// The reasons of the last refusal and of a DISCONNECT that are seen in `bytes`, read in pieces of `piece` bytes.
pub fn watched(bytes: &[u8], piece: usize) -> (Option<u8>, Option<u8>) {
    let seen = Seen::default();
    let mut link = Watched::new(bytes, &seen);
    let mut buffer = [0; 256];
    let piece = piece.clamp(1, buffer.len());
    while block_on(link.read(&mut buffer[..piece])).is_ok_and(|count| count > 0) {}
    (seen.take_refusal(), seen.disconnect())
}
