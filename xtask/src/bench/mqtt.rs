//! The few MQTT 5 packets that a load needs, as bytes: the generator shares two cores with what it measures.
//!
//! Layouts: MQTT 5.0, sections 3.1 (CONNECT), 3.3 (PUBLISH) and 3.4 (PUBACK).

use anyhow::{Context, Result, bail, ensure};

/// CONNECT: clean start, no keep-alive, no credentials.
pub(super) fn connect(client_id: &str) -> Vec<u8> {
    let id_length = client_id.len() as u8;
    let mut packet = vec![0x10, 13 + id_length];
    packet.extend_from_slice(b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00");
    packet.push(id_length);
    packet.extend_from_slice(client_id.as_bytes());
    packet
}

/// Checks that a reply to CONNECT says success.
pub(super) fn check_connack(reply: &[u8]) -> Result<()> {
    match reply {
        [0x20, _, _, 0, ..] => Ok(()),
        _ => bail!("the host refused a connection: {reply:02x?}"),
    }
}

/// Appends a PUBLISH with QoS 1 and the Message Expiry Interval that Rollcall's devices send.
pub(super) fn publish(out: &mut Vec<u8>, topic: &str, packet_id: u16, payload: &[u8]) {
    const EXPIRY: u8 = 0x02;
    let expiry = rollcall_wire::codec::MESSAGE_EXPIRY_S.to_be_bytes();
    // Topic with its length, packet id, length of the properties, the one property, payload.
    let length = 2 + topic.len() + 2 + 1 + 5 + payload.len();
    // Two digits of 7 bits: the payload has at most 256 bytes and the topic fewer than 60.
    out.extend_from_slice(&[0x32, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(&[5, EXPIRY]);
    out.extend_from_slice(&expiry);
    out.extend_from_slice(payload);
}

/// Takes the whole PUBACKs from the front of `received` and says how many there were.
pub(super) fn take_pubacks(received: &mut Vec<u8>) -> Result<u64> {
    let (mut at, mut count) = (0, 0);
    while let Some(&[kind, length]) = received.get(at..at + 2) {
        let end = at + 2 + usize::from(length);
        let Some(body) = received.get(at + 2..end) else { break };
        ensure!(kind == 0x40, "the host sent a packet of type {kind:#04x} where a PUBACK was due");
        let reason = body.get(2).copied().unwrap_or(0);
        ensure!(reason == 0, "the host refused a message with reason {reason:#04x}");
        (at, count) = (end, count + 1);
    }
    received.drain(..at);
    Ok(count)
}

/// The client id of connection `number`.
pub(super) fn client_id(number: usize) -> Result<rollcall_wire::DeviceId> {
    rollcall_wire::DeviceId::new(&format!("bench-{number}")).context("not a device id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_the_bytes_of_the_standard() {
        assert_eq!(connect("ab"), b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02ab");
        let mut out = Vec::new();
        publish(&mut out, "rollcall/5/porch/status", 0x0102, &[b'x'; 100]);
        let length = 2 + 23 + 2 + 6 + 100;
        assert_eq!(out[..3], [0x32, 0x80 | (length - 128) as u8, 1]);
        assert_eq!(out.len(), 3 + length);
        assert_eq!(out[28..36], [0x01, 0x02, 5, 2, 0x00, 0x27, 0x8d, 0x00]);
    }

    #[test]
    fn pubacks_are_counted_whole_and_a_refusal_is_an_error() {
        let mut received = b"\x40\x02\x00\x01\x40\x03\x00\x02\x00\x40\x02\x00".to_vec();
        assert_eq!(take_pubacks(&mut received).unwrap(), 2);
        assert_eq!(received, b"\x40\x02\x00");
        assert!(take_pubacks(&mut b"\x40\x03\x00\x01\x97".to_vec()).is_err());
        assert!(take_pubacks(&mut b"\xe0\x00".to_vec()).is_err());
    }
}
