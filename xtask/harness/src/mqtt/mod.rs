//! MQTT 3.1.1 and 5 by the byte: what tests and benches say, and what they hear.
//!
//! Guarantees: a packet has exactly the bytes that its caller asked for, right or wrong. It is written from the two
//! specifications and shares no code with what is tested; it needs nothing but the standard library, so that the
//! device's tests can use it alone. It knows nothing of Rollcall.

mod client;
mod connection;
mod decode;
mod encode;
pub mod property;

pub use self::client::Client;
pub use self::connection::Connection;
pub use self::decode::{Packet, PacketInBuffer, PublishPacket, receive_maximum, split_packet};
pub use self::encode::{
    ConnectPacket, PING_RESPONSE, Will, connack, disconnect, puback, publish, publish_with, subscribe,
};

/// A version of the protocol, by the number that CONNECT has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V311 = 4,
    /// 5.0.
    V5 = 5,
}

/// Packet types: the upper half of a packet's first byte (MQTT 5.0, section 2.1.2).
pub const CONNECT: u8 = 1;
/// The answer to CONNECT.
pub const CONNACK: u8 = 2;
/// A message.
pub const PUBLISH: u8 = 3;
/// The answer to a message of QoS 1.
pub const PUBACK: u8 = 4;
/// The end of a message of QoS 2.
pub const PUBCOMP: u8 = 7;
/// The answer to SUBSCRIBE.
pub const SUBACK: u8 = 9;
/// A sign of life.
pub const PINGREQ: u8 = 12;
/// The end of a connection.
pub const DISCONNECT: u8 = 14;
