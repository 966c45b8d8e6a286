//! What clients send, packet by packet.

use embedded_io_async::Read;
use rollcall_harness::mqtt::{
    self, CONNECT, DISCONNECT, PINGREQ, PUBLISH, PublishPacket, Version, split_packet,
};

use crate::net::Socket;

/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;

/// A packet of a client.
pub(crate) enum FromClient {
    Connect {
        keep_alive_s: u16,
    },
    Publish(Publish),
    Ping,
    /// It says goodbye, has closed, or does not speak MQTT.
    Leave,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) topic: Box<str>,
    pub(crate) payload: Box<[u8]>,
    pub(crate) is_retained: bool,
    /// QoS 0 has none.
    pub(crate) packet_id: Option<u16>,
    pub(crate) expiry_s: Option<u32>,
}

/// Puts packets together.
#[derive(Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// The next packet. Nothing is lost when the wait for it is given up.
    pub(crate) async fn next(&mut self, socket: &mut Socket) -> FromClient {
        loop {
            if let Some(packet) = self.take() {
                return packet;
            }
            let mut more = [0; READ_BYTES];
            match socket.read(&mut more).await {
                Ok(0) | Err(_) => return FromClient::Leave,
                Ok(count) => self.bytes.extend_from_slice(&more[..count]),
            }
        }
    }

    fn take(&mut self) -> Option<FromClient> {
        let Ok(split) = split_packet(&self.bytes) else { return Some(FromClient::Leave) };
        let (packet, length) = split?;
        let taken = match packet.kind() {
            CONNECT => match packet.body.get(8..10) {
                Some(keep_alive) => {
                    FromClient::Connect { keep_alive_s: u16::from_be_bytes([keep_alive[0], keep_alive[1]]) }
                }
                None => FromClient::Leave,
            },
            PUBLISH => match PublishPacket::parse(Version::V5, &packet) {
                Ok(publish) => FromClient::Publish(Publish {
                    topic: publish.topic.into(),
                    payload: publish.payload.into(),
                    is_retained: publish.is_retained(),
                    packet_id: publish.id,
                    expiry_s: expiry(publish.properties),
                }),
                Err(_) => FromClient::Leave,
            },
            PINGREQ => FromClient::Ping,
            DISCONNECT => FromClient::Leave,
            _ => FromClient::Leave,
        };
        self.bytes.drain(..length);
        Some(taken)
    }
}

/// The Message Expiry Interval, where it is the only property, as devices send it.
fn expiry(properties: &[u8]) -> Option<u32> {
    let seconds = properties.strip_prefix(&[mqtt::property::message_expiry_interval(0)[0]])?;
    seconds.try_into().ok().map(u32::from_be_bytes)
}
