//! A conversation without a socket, for fuzzing: what a client says, and what it hears.

use super::protocol::{self, Answer, Protocol, Reason, Request, Welcome};

/// What a client hears that is let in and says these bytes, its CONNECT first. Every message is taken.
pub fn answers(mut bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    let Ok(Some(connect)) = next_packet(&mut bytes) else { return output };
    let mut protocol = match protocol::hello(connect) {
        Ok((protocol, _)) => protocol,
        Err(not_welcome) => return not_welcome.answer,
    };
    let welcome = Welcome { assigned_client_id: Some("porch".to_owned()), keep_alive_s: Some(60) };
    if protocol.welcome(welcome, &mut output).is_err() {
        protocol.refuse_too_long(&mut output);
        return output;
    }
    if let Err(reason) = talk(&mut protocol, bytes, &mut output) {
        protocol.goodbye(reason, &mut output);
    }
    output
}

/// As long as there are whole packets.
fn talk(protocol: &mut Protocol, mut bytes: &[u8], output: &mut Vec<u8>) -> Result<(), Reason> {
    while let Some(packet) = next_packet(&mut bytes)? {
        match protocol.request(packet)? {
            Request::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    protocol.acknowledge(packet_id, Answer::Success, output);
                }
            }
            Request::Subscribe { packet_id, filters } => {
                protocol.refuse_subscription(packet_id, filters, output);
            }
            Request::Unsubscribe { packet_id, filters } => protocol.unsubscribe(packet_id, filters, output),
            Request::Release { packet_id } => protocol.complete(packet_id, output),
            Request::Ping => protocol.pong(output),
            Request::Disconnect { .. } => return Ok(()),
        }
    }
    Ok(())
}

fn next_packet<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Reason> {
    let Some(length) = protocol::packet_length(bytes)? else { return Ok(None) };
    let (packet, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(Some(packet))
}
