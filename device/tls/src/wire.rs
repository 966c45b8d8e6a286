//! The two buffers between TLS and the socket: one record each, whole before it is handed on. Pure.
//!
//! Guarantees: what is not a record that may come now, by type, length and version, never reaches embedded-tls;
//! a record reaches it once the last byte is there.

use crate::error::Failure;

/// Types of records (RFC 8446, section 5.1).
pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// A record's version, whatever was agreed on (section 5.1).
pub(crate) const VERSION: [u8; 2] = [3, 3];

/// What stands there instead, inside this crate alone, once the handshake is done. embedded-tls hands a
/// record's header to the cipher as it is and reads no version, so this is how the cipher comes to know.
pub(crate) const VERSION_ONCE_OPEN: [u8; 2] = [3, 4];

/// A record's type, version and length.
pub(crate) const HEADER_SIZE: usize = 5;

/// The type within, and the tag of AES-GCM: a record without content.
const ENCRYPTED_MIN: usize = 1 + 16;

/// RFC 8446, section 4: a handshake message's type and length, and the type of the only one that is not encrypted.
const MESSAGE_HEADER_SIZE: usize = 4;
const SERVER_HELLO: u8 = 2;

/// So many encrypted records of a handshake are taken. Each of its five messages may have one of its own; a server that
/// has not proved who it is must not keep the device at work with more.
const HANDSHAKE_RECORDS_MAX: u8 = 8;

/// So many records are encrypted under one key: a power of two below what AES-GCM is good for (section 5.5).
const SEALED_MAX: u32 = 1 << 24;

/// What embedded-tls keeps free in the buffer of a record for everything around its content.
const RECORD_OVERHEAD: usize = embedded_tls::TLS_RECORD_OVERHEAD + HEADER_SIZE;

/// What may come.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Hello,
    /// So many encrypted records have come.
    Handshake {
        change_seen: bool,
        records: u8,
    },
    Open,
}

/// What is in the buffer of what comes.
#[derive(Clone, Copy)]
enum Content {
    /// So much of a record.
    Part(usize),
    /// A whole record, of which TLS has not had `at..end` yet.
    Record { at: usize, end: usize },
    /// What was in one: `at..end` is still to be read.
    Plain { at: usize, end: usize },
    /// The server said that nothing more comes.
    Closed,
}

/// What comes from the socket.
pub(crate) struct Inward<const N: usize> {
    bytes: [u8; N],
    content: Content,
    phase: Phase,
}

impl<const N: usize> Inward<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], content: Content::Part(0), phase: Phase::Hello }
    }

    /// A new connection.
    pub(crate) const fn reset(&mut self) {
        (self.content, self.phase) = (Content::Part(0), Phase::Hello);
    }

    /// The handshake is done.
    pub(crate) const fn open(&mut self) {
        self.phase = Phase::Open;
    }

    /// Where the next bytes of the socket belong: to the end of a header or of a record, never beyond.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let Content::Part(filled) = self.content else { return &mut [] };
        let end = if filled < HEADER_SIZE { HEADER_SIZE } else { HEADER_SIZE + self.length() };
        self.bytes.get_mut(filled..end).unwrap_or_default()
    }

    /// As many bytes were put there.
    pub(crate) fn filled(&mut self, count: usize) -> Result<(), Failure> {
        let Content::Part(before) = self.content else { return Err(Failure::Buffer) };
        let filled = before + count;
        self.content = Content::Part(filled);
        if filled == HEADER_SIZE {
            self.check_header()?;
        }
        if filled > HEADER_SIZE && filled == HEADER_SIZE + self.length() {
            self.check_record(filled)?;
        }
        Ok(())
    }

    fn length(&self) -> usize {
        usize::from(u16::from_be_bytes([self.bytes[3], self.bytes[4]]))
    }

    fn check_header(&self) -> Result<(), Failure> {
        let (kind, length) = (self.bytes[0], self.length());
        let is_due = match (kind, self.phase) {
            (HANDSHAKE, Phase::Hello) => length >= MESSAGE_HEADER_SIZE,
            (ALERT, Phase::Hello | Phase::Handshake { .. }) => length == 2,
            (CHANGE_CIPHER_SPEC, Phase::Handshake { change_seen: false, .. }) => length == 1,
            (APPLICATION_DATA, Phase::Handshake { .. } | Phase::Open) => length >= ENCRYPTED_MIN,
            _ => false,
        };
        if !is_due || self.bytes[1..3] != VERSION {
            return Err(Failure::Record);
        }
        if HEADER_SIZE + length > N {
            return Err(Failure::RecordTooLong(length as u16));
        }
        Ok(())
    }

    fn check_record(&mut self, end: usize) -> Result<(), Failure> {
        let record = Content::Record { at: 0, end };
        let body = &self.bytes[HEADER_SIZE..end];
        self.content = match (self.bytes[0], self.phase) {
            (ALERT, _) => return Err(Failure::Alert(Some(body[1]))),
            // Section 5: it means nothing, and comes to please what stands between.
            (CHANGE_CIPHER_SPEC, Phase::Handshake { records, .. }) if body == [1] => {
                self.phase = Phase::Handshake { change_seen: true, records };
                Content::Part(0)
            }
            (HANDSHAKE, _) => {
                let length = (body.len() - MESSAGE_HEADER_SIZE).to_be_bytes();
                let [.., high, middle, low] = length;
                if body[..MESSAGE_HEADER_SIZE] != [SERVER_HELLO, high, middle, low] {
                    return Err(Failure::Handshake);
                }
                self.phase = Phase::Handshake { change_seen: false, records: 0 };
                record
            }
            (APPLICATION_DATA, Phase::Open) => {
                self.bytes[1..3].copy_from_slice(&VERSION_ONCE_OPEN);
                record
            }
            (APPLICATION_DATA, Phase::Handshake { change_seen, records }) => {
                if records == HANDSHAKE_RECORDS_MAX {
                    return Err(Failure::Handshake);
                }
                self.phase = Phase::Handshake { change_seen, records: records + 1 };
                record
            }
            _ => return Err(Failure::Record),
        };
        Ok(())
    }

    /// Is there a record for TLS?
    pub(crate) const fn has_record(&self) -> bool {
        matches!(self.content, Content::Record { .. })
    }

    /// Hands the next bytes of a whole record to TLS.
    pub(crate) fn take_record(&mut self, out: &mut [u8]) -> usize {
        let Content::Record { at, end } = self.content else { return 0 };
        let count = out.len().min(end - at);
        out[..count].copy_from_slice(&self.bytes[at..][..count]);
        let at = at + count;
        self.content = if at == end { Content::Part(0) } else { Content::Record { at, end } };
        count
    }

    /// Puts what was in the record into the place that it had.
    pub(crate) fn deliver(&mut self, plain: &[u8]) -> Result<(), Failure> {
        self.bytes.get_mut(..plain.len()).ok_or(Failure::Buffer)?.copy_from_slice(plain);
        self.content = Content::Plain { at: 0, end: plain.len() };
        Ok(())
    }

    /// The server says that nothing more comes.
    pub(crate) const fn close(&mut self) {
        self.content = Content::Closed;
    }

    /// Takes what was in a record; 0 after the last, `None` while there is nothing.
    pub(crate) fn take_plain(&mut self, out: &mut [u8]) -> Option<usize> {
        match self.content {
            Content::Plain { at, end } => {
                let count = out.len().min(end - at);
                out[..count].copy_from_slice(&self.bytes[at..][..count]);
                let at = at + count;
                self.content = if at == end { Content::Part(0) } else { Content::Plain { at, end } };
                Some(count)
            }
            Content::Closed => Some(0),
            Content::Part(_) | Content::Record { .. } => None,
        }
    }
}

/// What goes to the socket: either what is still to be encrypted, or records.
pub(crate) struct Outward<const N: usize> {
    bytes: [u8; N],
    /// Encrypted are `sent..end`, the first of which have been sent; `None` while nothing is encrypted.
    sent: Option<usize>,
    end: usize,
    /// So many records of data were encrypted in this connection.
    sealed: u32,
}

impl<const N: usize> Outward<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], sent: None, end: 0, sealed: 0 }
    }

    /// A new connection, with new keys.
    pub(crate) const fn reset(&mut self) {
        self.clear();
        self.sealed = 0;
    }

    /// Nothing of it is to be sent.
    pub(crate) const fn clear(&mut self) {
        (self.sent, self.end) = (None, 0);
    }

    /// Takes what is to be encrypted, as far as there is room and nothing encrypted is left.
    pub(crate) fn append_plain(&mut self, plain: &[u8]) -> usize {
        // One byte less than embedded-tls has room for, so that it is we who say when a record ends.
        let limit = N.saturating_sub(RECORD_OVERHEAD + 1);
        let room = if self.sent.is_none() { limit.saturating_sub(self.end) } else { 0 };
        let count = plain.len().min(room);
        self.bytes[self.end..][..count].copy_from_slice(&plain[..count]);
        self.end += count;
        count
    }

    /// What waits to be encrypted.
    pub(crate) fn plain(&self) -> &[u8] {
        if self.sent.is_none() { &self.bytes[..self.end] } else { &[] }
    }

    /// What is encrypted takes the place of what was not.
    pub(crate) const fn begin_record(&mut self) -> Result<(), Failure> {
        if self.sealed == SEALED_MAX {
            return Err(Failure::KeySpent);
        }
        self.sealed += 1;
        (self.sent, self.end) = (Some(0), 0);
        Ok(())
    }

    /// Takes a record, whole or not at all.
    pub(crate) fn append_record(&mut self, record: &[u8]) -> Result<usize, Failure> {
        if self.sent.is_none() && self.end > 0 {
            return Err(Failure::Buffer);
        }
        let room = self.bytes.get_mut(self.end..).and_then(|room| room.get_mut(..record.len()));
        room.ok_or(Failure::Buffer)?.copy_from_slice(record);
        self.end += record.len();
        self.sent = self.sent.or(Some(0));
        Ok(record.len())
    }

    /// What is encrypted and not sent.
    pub(crate) fn encrypted(&self) -> &[u8] {
        self.sent.map_or(&[], |sent| &self.bytes[sent..self.end])
    }

    /// The socket took so many of them.
    pub(crate) const fn sent(&mut self, count: usize) {
        if let Some(before) = self.sent {
            self.sent = Some(before + count);
            if before + count >= self.end {
                self.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_for_so_many_records_and_the_next_connection_has_another() {
        let mut outward = Outward::<64>::new();
        for _ in 0..SEALED_MAX {
            assert_eq!(outward.begin_record(), Ok(()));
        }
        assert_eq!(outward.begin_record(), Err(Failure::KeySpent));
        outward.reset();
        assert_eq!(outward.begin_record(), Ok(()));
    }
}
