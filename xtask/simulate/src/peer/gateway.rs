//! The gateway, as the host's own is: no sessions, answers in the order of the publishes, and each only when the
//! ingest loop has settled its message.

use std::collections::VecDeque;
use std::rc::Rc;

use rollcall_harness::mqtt::{PING_RESPONSE, connack, disconnect, property, puback};
use rollcall_host::model::{Sender, Verdict};
use rollcall_wire::codec::Rejection;

use super::taking::{Pending, settled};
use super::{FromClient, Publish, Reader, Taking};
use crate::net::Socket;
use crate::time::{now_ms, sleep_until};

/// Unacknowledged publishes of a connection at most.
const RECEIVE_MAX: u16 = 256;

/// Reason codes of MQTT 5, section 2.4.
const TOPIC_NAME_INVALID: u8 = 0x90;
const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;

/// Serves a client until one of them leaves.
pub(crate) async fn serve(mut socket: Socket, taking: Rc<Taking>) {
    let mut reader = Reader::default();
    let FromClient::Connect { keep_alive_s } = reader.next(&mut socket).await else { return };
    if taking.is_draining.get() {
        return;
    }
    socket.send(&connack(false, 0, &property::receive_maximum(RECEIVE_MAX)));
    let silence_ms = u64::from(keep_alive_s) * 1500;
    let mut waiting = VecDeque::new();
    let mut heard_ms = now_ms();
    loop {
        tokio::select! {
            biased;
            (pending, verdict) = settled(&mut waiting) => {
                let Pending { tag, .. } = &pending;
                match (tag, verdict) {
                    (Some(packet_id), Some(verdict)) => answer(&socket, *packet_id, verdict),
                    (None, Some(_)) => {}
                    (_, None) => return socket.send(&disconnect(IMPLEMENTATION_SPECIFIC)),
                }
            }
            packet = reader.next(&mut socket) => {
                heard_ms = now_ms();
                match packet {
                    FromClient::Publish(publish) => match take(&taking, publish).await {
                        Ok(pending) => waiting.extend(pending),
                        Err(Ended) => return,
                    },
                    FromClient::Ping => socket.send(PING_RESPONSE),
                    FromClient::Connect { .. } | FromClient::Leave => return,
                }
            }
            () = sleep_until(heard_ms + silence_ms) => {
                return socket.send(&disconnect(KEEP_ALIVE_TIMEOUT));
            }
        }
    }
}

/// There is no ingest loop any more.
struct Ended;

/// Hands a message on; one that comes while the host drains stays unanswered until the connection closes.
async fn take(taking: &Rc<Taking>, publish: Publish) -> Result<Option<Pending<Option<u16>>>, Ended> {
    if taking.is_draining.get() {
        return Ok(None);
    }
    let packet_id = publish.packet_id;
    let sender = if packet_id.is_some() { Sender::HearsRefusal } else { Sender::HearsNothing };
    taking.take(publish, sender, 0, packet_id).await.map(Some).ok_or(Ended)
}

fn answer(socket: &Socket, packet_id: u16, verdict: Verdict) {
    let (reason, rejection) = match verdict {
        Verdict::Accepted | Verdict::Duplicate | Verdict::Undecided => (0, None),
        Verdict::Rejected(
            rejection @ (Rejection::BadTopic | Rejection::BadDevice | Rejection::WrongSlot),
        ) => (TOPIC_NAME_INVALID, Some(rejection)),
        Verdict::Rejected(rejection) => (PAYLOAD_FORMAT_INVALID, Some(rejection)),
    };
    let named = rejection.map(|rejection| property::reason_string(rejection.name())).unwrap_or_default();
    socket.send(&puback(packet_id, reason, &named));
}
