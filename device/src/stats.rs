//! What an emitter has done so far, readable while it runs. Counters only grow.

use core::cell::Cell;
use core::fmt;

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use embedded_io_async::ErrorKind;
use rollcall_wire::Status;

use crate::sharing::{OneTask, Sharing};

/// Where an emitter stands with its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running.
    Idle,
    /// Connecting, or in the MQTT handshake.
    Connecting,
    /// The broker accepted the connection.
    Connected,
    /// Waiting before the next attempt; `last_error` says why.
    BackingOff,
}

/// Why a link ended, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LinkError {
    /// No TCP connection: is the broker there?
    Connect(ErrorKind),
    /// No TCP connection in time.
    ConnectTimeout,
    /// No CONNACK in time: is it an MQTT 5 broker?
    HandshakeTimeout,
    /// The CONNACK, or a DISCONNECT, gave this MQTT 5 reason code: credentials or rights, mostly.
    Refused(u8),
    /// What came was not MQTT 5.
    Protocol,
    /// The broker closed the connection without a word.
    Closed,
    /// The transport failed.
    Transport(ErrorKind),
    /// The transport did not take a packet in time.
    WriteTimeout,
    /// A PUBACK did not come in time.
    AckTimeout,
    /// The broker's Maximum Packet Size is below what a publish takes: raise it there.
    PacketTooLarge,
    /// The broker's Maximum QoS is 0, with which nothing can be acknowledged: raise it there.
    QosUnsupported,
    /// A buffer of the device is too small for a packet: a fault of this crate.
    Buffer,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(kind) => write!(f, "no connection to the broker: {kind:?}"),
            Self::ConnectTimeout => f.write_str("no connection to the broker in time"),
            Self::HandshakeTimeout => f.write_str("the broker did not answer the MQTT handshake in time"),
            Self::Refused(reason) => write!(f, "the broker ended it with reason code {reason:#04x}"),
            Self::Protocol => f.write_str("the peer does not speak MQTT 5"),
            Self::Closed => f.write_str("the broker closed the connection"),
            Self::Transport(kind) => write!(f, "the connection failed: {kind:?}"),
            Self::WriteTimeout => f.write_str("the connection took no data in time"),
            Self::AckTimeout => f.write_str("no acknowledgement in time"),
            Self::PacketTooLarge => {
                f.write_str("the broker's maximum packet size is too small for a reading")
            }
            Self::QosUnsupported => f.write_str("the broker does not offer QoS 1"),
            Self::Buffer => f.write_str("a packet does not fit the device's buffers"),
        }
    }
}

impl core::error::Error for LinkError {}

/// The live counters of one emitter, for whoever may share its outbox.
pub struct Stats<S: Sharing = OneTask> {
    now: Mutex<S::Lock, Cell<Snapshot>>,
}

impl<S: Sharing> fmt::Debug for Stats<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// All counters at one instant: `sampled + restored = acknowledged + refused + dropped() + outbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Samples taken.
    pub sampled: u64,
    /// Samples that a store kept over a reset; none without a store.
    pub restored: u64,
    /// Sampling periods that passed without a sample, because the device was busy.
    pub missed: u64,
    /// PUBLISH packets handed to the transport, repeats included.
    pub published: u64,
    /// Samples whose PUBACK said success.
    pub acknowledged: u64,
    /// The same by status.
    pub acknowledged_by_status: [u64; Status::COUNT],
    /// PUBACKs that refused a sample for now; the samples stay in the outbox and are sent again.
    pub rejected: u64,
    /// Samples whose PUBACK refused them for good, as topic (0x90) or payload (0x99) is invalid; they are
    /// not sent again.
    pub refused: u64,
    /// Samples that gave way to newer ones in a full outbox.
    pub overflowed: u64,
    /// Samples that grew older than the host takes.
    pub expired: u64,
    /// Samples that a store did not keep; none without a store.
    pub unstored: u64,
    /// Samples in the outbox now.
    pub outbox: u64,
    /// Connections that a broker accepted.
    pub connects: u64,
    /// Attempts and connections that failed.
    pub failures: u64,
    /// Where it stands now.
    pub state: State,
    /// Why the last attempt or connection failed.
    pub last_error: Option<LinkError>,
    /// The last reason code that refused a sample.
    pub last_rejection: Option<u8>,
}

impl Snapshot {
    const ZERO: Self = Self {
        sampled: 0,
        restored: 0,
        missed: 0,
        published: 0,
        acknowledged: 0,
        acknowledged_by_status: [0; Status::COUNT],
        rejected: 0,
        refused: 0,
        overflowed: 0,
        expired: 0,
        unstored: 0,
        outbox: 0,
        connects: 0,
        failures: 0,
        state: State::Idle,
        last_error: None,
        last_rejection: None,
    };

    /// Samples that will never be sent.
    pub const fn dropped(&self) -> u64 {
        self.overflowed + self.expired + self.unstored
    }

    /// Connections accepted after the first.
    pub const fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }
}

impl Stats {
    /// All zero.
    pub const fn new() -> Self {
        Self::zero()
    }
}

impl<S: Sharing> Stats<S> {
    /// All zero, however they are shared.
    pub const fn zero() -> Self {
        Self { now: Mutex::const_new(S::Lock::INIT, Cell::new(Snapshot::ZERO)) }
    }

    /// The counters as they stand, all at one instant.
    pub fn snapshot(&self) -> Snapshot {
        self.now.lock(Cell::get)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.now.lock(|cell| {
            let mut now = cell.get();
            change(&mut now);
            cell.set(now);
        });
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}
