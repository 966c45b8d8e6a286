//! Reads along on a link's inbound bytes for what the MQTT client does not tell: the reason code of each
//! PUBACK and of a DISCONNECT.
//!
//! It changes no byte, and it is the one place where reads are buffered: the client asks for a packet in
//! three small reads, which would be three system calls.

use core::cell::Cell;

use embedded_io_async::{ErrorType, Read, Write};

/// MQTT 5, section 2.1.2: packet types, in the upper half of the first byte.
const PUBACK: u8 = 4;
const DISCONNECT: u8 = 14;

/// MQTT 5, section 1.5.5: a length has at most four bytes.
const LENGTH_BYTES_MAX: u8 = 4;

/// Several PUBACKs; a longer packet simply takes more reads.
const BUFFER_SIZE: usize = 64;

/// What was seen and not asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    refusal: Cell<Option<u8>>,
    disconnect: Cell<Option<u8>>,
}

impl Seen {
    /// The last reason other than success in a PUBACK since this was last asked.
    pub(crate) fn take_refusal(&self) -> Option<u8> {
        self.refusal.take()
    }

    /// The reason in the broker's DISCONNECT.
    pub(crate) fn disconnect(&self) -> Option<u8> {
        self.disconnect.get()
    }
}

/// A transport whose inbound packets are watched.
pub(crate) struct Watched<'a, IO> {
    io: IO,
    seen: &'a Seen,
    scanner: Scanner,
    buffer: [u8; BUFFER_SIZE],
    start: usize,
    end: usize,
}

impl<'a, IO> Watched<'a, IO> {
    pub(crate) fn new(io: IO, seen: &'a Seen) -> Self {
        Self { io, seen, scanner: Scanner::Type, buffer: [0; BUFFER_SIZE], start: 0, end: 0 }
    }
}

impl<IO: ErrorType> ErrorType for Watched<'_, IO> {
    type Error = IO::Error;
}

impl<IO: Read> Read for Watched<'_, IO> {
    /// Cancel-safe where the transport's own read is: nothing is kept across its await.
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, IO::Error> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.end = self.io.read(&mut self.buffer).await?;
        }
        let buffered = &self.buffer[self.start..self.end];
        let count = buffered.len().min(out.len());
        out[..count].copy_from_slice(&buffered[..count]);
        // Scanned as it is handed on, so that what was seen is what the client can have acted upon.
        out[..count].iter().for_each(|byte| self.scanner.step(*byte, self.seen));
        self.start += count;
        Ok(count)
    }
}

impl<IO: Write> Write for Watched<'_, IO> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, IO::Error> {
        self.io.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), IO::Error> {
        self.io.flush().await
    }
}

/// Where in a packet the next byte stands.
#[derive(Clone, Copy)]
enum Scanner {
    Type,
    Length {
        kind: u8,
        length: u32,
        bytes: u8,
    },
    Body {
        kind: u8,
        at: u32,
        length: u32,
    },
    /// Not MQTT. The client finds out by itself.
    Lost,
}

impl Scanner {
    fn step(&mut self, byte: u8, seen: &Seen) {
        *self = match *self {
            Self::Type => Self::Length { kind: byte >> 4, length: 0, bytes: 0 },
            Self::Length { kind, length, bytes } => {
                let length = length | u32::from(byte & 0x7f) << (7 * bytes);
                match (byte & 0x80, length) {
                    (0, 0) => Self::Type,
                    (0, _) => Self::Body { kind, at: 0, length },
                    _ if bytes + 1 == LENGTH_BYTES_MAX => Self::Lost,
                    _ => Self::Length { kind, length, bytes: bytes + 1 },
                }
            }
            Self::Body { kind, at, length } => {
                match (kind, at) {
                    // Sections 3.4.2.1 and 3.14.2.1. Absent means success.
                    (PUBACK, 2) if byte != 0 => seen.refusal.set(Some(byte)),
                    (DISCONNECT, 0) => seen.disconnect.set(Some(byte)),
                    _ => {}
                }
                if at + 1 == length { Self::Type } else { Self::Body { kind, at: at + 1, length } }
            }
            Self::Lost => Self::Lost,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusals and the DISCONNECT reason in `bytes`.
    fn scan(bytes: &[u8]) -> (Option<u8>, Option<u8>) {
        let (mut scanner, seen) = (Scanner::Type, Seen::default());
        bytes.iter().for_each(|byte| scanner.step(*byte, &seen));
        (seen.take_refusal(), seen.disconnect())
    }

    #[test]
    fn a_puback_that_says_success_in_either_form_is_no_refusal() {
        assert_eq!(scan(&[0x40, 2, 0x12, 0x34]), (None, None));
        assert_eq!(scan(&[0x40, 3, 0x12, 0x34, 0]), (None, None));
        assert_eq!(scan(&[0x40, 4, 0x12, 0x34, 0, 0]), (None, None));
    }

    #[test]
    fn any_other_reason_in_a_puback_is_a_refusal() {
        for reason in [0x10, 0x80, 0x87, 0x97, 0xff] {
            assert_eq!(scan(&[0x40, 3, 0x12, 0x34, reason]), (Some(reason), None));
            assert_eq!(scan(&[0x40, 9, 0, 1, reason, 5, 0x1f, 0, 2, 0x40, 0x40]), (Some(reason), None));
        }
    }

    #[test]
    fn packets_around_a_puback_are_passed_over() {
        let publish = [&[0x30, 0x80, 0x01][..], &[0x40; 128]].concat();
        let around = [&publish[..], &[0xd0, 0], &[0x40, 3, 0, 1, 0x97], &[0xd0, 0], &publish].concat();
        assert_eq!(scan(&around), (Some(0x97), None));
        assert_eq!(scan(&publish), (None, None));
    }

    #[test]
    fn the_reason_of_a_disconnect_is_kept_and_its_absence_is_none() {
        assert_eq!(scan(&[0xe0, 1, 0x8e]), (None, Some(0x8e)));
        assert_eq!(scan(&[0xe0, 0]), (None, None));
    }

    #[test]
    fn a_length_of_more_than_four_bytes_ends_the_watch() {
        assert_eq!(scan(&[0x40, 0xff, 0xff, 0xff, 0xff, 0x40, 3, 0, 1, 0x97]), (None, None));
    }
}
