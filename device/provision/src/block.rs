//! The block: how settings lie in a board's flash.
//!
//! Little endian; `text` is a byte of length and as many bytes.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `RCFG` |
//! | 4 | 2 | version: 1, or 2 with what TLS needs |
//! | 6 | 2 | length of the body, n |
//! | 8 | 4 | period in milliseconds, not 0 |
//! | 12 | 2 | TCP port of the broker, not 0 |
//! | 14 | text | host of the broker: IPv4 address or name |
//! | | text | device id; empty: the board makes one |
//! | | text | user; empty: no login |
//! | | text | password |
//! | | 65 | from version 2 on: the server's public key, an uncompressed point of P-256 |
//! | | text | from version 2 on: the key that it will have next, as such a point; empty: none |
//! | | 32 | from version 2 on: random bytes of this board alone, for a board without a source of its own |
//! | 8 + n | 4 | CRC-32 (IEEE 802.3) of everything before it |

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};
use core::str;

use rollcall_wire::DeviceId;
use rollcall_wire::reading::DEVICE_ID_MAX;

use crate::crc::crc32;
use crate::settings::{Broker, HOST_MAX, Host, Login, PASSWORD_MAX, Settings, USER_MAX};
#[cfg(feature = "tls")]
use crate::tls::{PIN_SIZE, Pin, SEED_SIZE, Tls};

/// The size of a block with its padding, in bytes: whole pages of the flash that writes the largest
/// (RP2040, 256 bytes), so that no board has to round.
pub const BLOCK_SIZE: usize = if cfg!(feature = "tls") { 768 } else { 512 };

/// The newest version that is read. Without TLS the first is written: firmware that has no TLS reads it, and
/// refuses a block that asks for it.
pub const VERSION: u16 = if cfg!(feature = "tls") { 2 } else { 1 };

const MAGIC: [u8; 4] = *b"RCFG";
const HEADER_SIZE: usize = 8;
const CRC_SIZE: usize = 4;

/// What erased NOR flash reads as, and what fills a block up.
const ERASED: u8 = 0xff;

/// The longest body: the fixed fields and four texts, each with its byte of length.
const BODY_MAX: usize = 4 + 2 + 4 + HOST_MAX + DEVICE_ID_MAX + USER_MAX + PASSWORD_MAX + TLS_MAX;

/// What TLS needs of it.
#[cfg(feature = "tls")]
const TLS_MAX: usize = PIN_SIZE + (1 + PIN_SIZE) + SEED_SIZE;
#[cfg(not(feature = "tls"))]
const TLS_MAX: usize = 0;

const _: () = assert!(HEADER_SIZE + BODY_MAX + CRC_SIZE <= BLOCK_SIZE, "a block must hold the longest texts");

/// A block's bytes, as they lie in flash. `Debug` does not show them: a password is among them.
#[derive(Clone, PartialEq, Eq)]
pub struct Block([u8; BLOCK_SIZE]);

impl Block {
    /// The block that holds `settings`, filled up with what erased flash reads as.
    pub fn encode(settings: &Settings<'_>) -> Self {
        let mut writer = Writer { bytes: [ERASED; BLOCK_SIZE], at: HEADER_SIZE };
        writer.put(&settings.period_ms.get().to_le_bytes());
        writer.put(&settings.broker.port.get().to_le_bytes());
        writer.host(&settings.broker.host);
        writer.text(settings.device.as_ref().map_or("", DeviceId::as_str).as_bytes());
        let (user, password) = settings.login.map_or(("", &[][..]), |login| (login.user(), login.password()));
        writer.text(user.as_bytes());
        writer.text(password);
        #[cfg(feature = "tls")]
        if let Some(tls) = &settings.tls {
            writer.put(tls.pin.as_bytes());
            writer.text(tls.next.as_ref().map_or(&[][..], |next| next.as_bytes()));
            writer.put(&tls.seed);
            return writer.seal(2);
        }
        writer.seal(1)
    }

    /// A block from what was read from flash.
    pub const fn from_bytes(bytes: [u8; BLOCK_SIZE]) -> Self {
        Self(bytes)
    }

    /// What is written to flash.
    pub const fn as_bytes(&self) -> &[u8; BLOCK_SIZE] {
        &self.0
    }

    /// The settings in it.
    ///
    /// # Errors
    /// [`BlockError`] says what is wrong first; nothing of such a block is to be used.
    pub fn settings(&self) -> Result<Settings<'_>, BlockError> {
        #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "there is one only"))]
        let (version, body) = self.checked_body()?;
        let mut body = Reader(body);
        let period_ms = NonZeroU32::new(u32::from_le_bytes(body.take(Field::Period)?));
        let period_ms = period_ms.ok_or(BlockError::Field(Field::Period))?;
        let port = NonZeroU16::new(u16::from_le_bytes(body.take(Field::Port)?));
        let port = port.ok_or(BlockError::Field(Field::Port))?;
        let host = Host::parse(body.text(Field::Host)?).map_err(|_| BlockError::Field(Field::Host))?;
        let device = match body.text(Field::Device)? {
            "" => None,
            id => Some(DeviceId::new(id).map_err(|_| BlockError::Field(Field::Device))?),
        };
        let login = match (body.text(Field::Login)?, body.bytes(Field::Login)?) {
            ("", []) => None,
            (user, password) => {
                Some(Login::new(user, password).map_err(|_| BlockError::Field(Field::Login))?)
            }
        };
        #[cfg(feature = "tls")]
        let tls = if version < 2 { None } else { Some(body.tls()?) };
        if !body.0.is_empty() {
            return Err(BlockError::Length);
        }
        Ok(Settings {
            broker: Broker { host, port },
            device,
            login,
            period_ms,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Version and body, once magic, version, length and CRC are right.
    fn checked_body(&self) -> Result<(u16, &[u8]), BlockError> {
        if self.0.iter().all(|byte| *byte == ERASED) {
            return Err(BlockError::Erased);
        }
        let mut header = Reader(&self.0);
        if header.take(Field::Header)? != MAGIC {
            return Err(BlockError::Magic);
        }
        let version = u16::from_le_bytes(header.take(Field::Header)?);
        let length = usize::from(u16::from_le_bytes(header.take(Field::Header)?));
        if length > BLOCK_SIZE - HEADER_SIZE - CRC_SIZE {
            // A later version may be longer than what is read here, and its CRC beyond it.
            return Err(if version > VERSION { BlockError::Version(version) } else { BlockError::Length });
        }
        let (covered, rest) = self.0.split_at(HEADER_SIZE + length);
        if crc32(covered).to_le_bytes() != rest[..CRC_SIZE] {
            return Err(BlockError::Crc);
        }
        // Last: a later version's header and CRC stay where they are, so that it can be told from a bad
        // block.
        if !(1..=VERSION).contains(&version) {
            return Err(BlockError::Version(version));
        }
        Ok((version, &covered[HEADER_SIZE..]))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").finish_non_exhaustive()
    }
}

/// Fills a block. Every text has been checked against its maximum, and a block holds them all.
struct Writer {
    bytes: [u8; BLOCK_SIZE],
    at: usize,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn text(&mut self, text: &[u8]) {
        self.put(&[text.len() as u8]);
        self.put(text);
    }

    fn host(&mut self, host: &Host<'_>) {
        let length_at = self.at;
        self.put(&[0]);
        // The writer takes whatever it is given.
        let _ = fmt::write(self, format_args!("{host}"));
        self.bytes[length_at] = (self.at - length_at - 1) as u8;
    }

    fn seal(mut self, version: u16) -> Block {
        let length = (self.at - HEADER_SIZE) as u16;
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[4..6].copy_from_slice(&version.to_le_bytes());
        self.bytes[6..8].copy_from_slice(&length.to_le_bytes());
        let crc = crc32(&self.bytes[..self.at]);
        self.put(&crc.to_le_bytes());
        Block(self.bytes)
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, field: Field) -> Result<[u8; N], BlockError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BlockError::Field(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, field: Field) -> Result<&'a [u8], BlockError> {
        let [length] = self.take(field)?;
        let (bytes, rest) = self.0.split_at_checked(usize::from(length)).ok_or(BlockError::Field(field))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self, field: Field) -> Result<&'a str, BlockError> {
        str::from_utf8(self.bytes(field)?).map_err(|_| BlockError::Field(field))
    }

    #[cfg(feature = "tls")]
    fn tls(&mut self) -> Result<Tls, BlockError> {
        let pin = |bytes: &[u8]| Pin::new(bytes).map_err(|_| BlockError::Field(Field::Tls));
        let now = pin(&self.take::<PIN_SIZE>(Field::Tls)?)?;
        let next = match self.bytes(Field::Tls)? {
            [] => None,
            bytes => Some(pin(bytes)?),
        };
        Ok(Tls { pin: now, next, seed: self.take(Field::Tls)? })
    }
}

/// Why a block is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The sector was never written.
    Erased,
    /// Something else lies there.
    Magic,
    /// Written for firmware that reads this version.
    Version(u16),
    /// The length is not that of the fields.
    Length,
    /// Damaged, or its writing was cut off.
    Crc,
    /// A field holds what it cannot.
    Field(Field),
}

/// A part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Magic, version and length.
    Header,
    /// The period.
    Period,
    /// The broker's port.
    Port,
    /// The broker's host.
    Host,
    /// The device id.
    Device,
    /// User and password.
    Login,
    /// What TLS needs.
    #[cfg(feature = "tls")]
    Tls,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erased => f.write_str("the board has no configuration yet"),
            Self::Magic => f.write_str("what lies in the configuration's sector is no configuration"),
            Self::Version(version) => {
                write!(f, "the configuration has version {version}, this firmware reads {VERSION}")
            }
            Self::Length => f.write_str("the configuration's length is not that of its fields"),
            Self::Crc => f.write_str("the configuration is damaged: its CRC is wrong"),
            Self::Field(field) => write!(f, "the configuration's {field:?} is not valid"),
        }
    }
}

impl core::error::Error for BlockError {}
