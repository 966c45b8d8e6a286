//! A message on its way to the ingest loop: whether it may be published, the wait for room in the inbox, and what
//! becomes of it and of those behind it when there is none.

use std::num::NonZeroU16;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Connection, End};
use crate::model::{Ack, Message, Moment, Retain, Sender};
use crate::ops::{Dropped, Refused};
use crate::source::gateway::protocol::{
    Answer, Protocol, Publish, RECEIVE_MAX, Reason, Request, packet_length,
};
use crate::source::kept;

/// While a message waits for room in the inbox, how often is looked whether its client is still there.
const PEER_CHECK: Duration = Duration::from_secs(1);

/// What a client that has left had sent may wait so long for room in the inbox: a store that is away must not
/// make connections pile up that nobody uses.
const LAST_MESSAGES: Duration = Duration::from_secs(10);

impl Connection {
    /// Hands a message to the ingest loop. One of QoS 0 is not answered: nobody hears what became of it.
    pub(super) async fn publish(&mut self, protocol: &mut Protocol, publish: Publish) -> Result<(), End> {
        let received = Moment::now();
        if let Some(packet_id) = publish.packet_id
            && !self.socket.left
        {
            if self.unanswered.len() >= usize::from(RECEIVE_MAX.get()) {
                return Err(self.end(protocol, Reason::ReceiveMaximumExceeded));
            }
            if self.unanswered.holds(packet_id) {
                return self.packet_id_in_use(protocol, packet_id);
            }
        }
        if !self.rights.are_valid() {
            return Err(self.end(protocol, Reason::NotAuthorized));
        }
        if !self.rights.may_publish(&publish.topic) {
            return self.not_authorized(protocol, publish.packet_id);
        }
        let Some(unsettled) = self.shared.gate.take() else {
            // 3.1.1 cannot refuse a message: it stays unanswered until the connection closes.
            if let Some(packet_id) = publish.packet_id
                && protocol.can_refuse()
            {
                self.unanswered.await_turn(packet_id, Answer::ShuttingDown);
            }
            return Ok(());
        };
        let (ack, verdict) = Ack::new();
        let sender = match publish.packet_id {
            Some(_) if protocol.can_refuse() => Sender::HearsRefusal,
            _ => Sender::HearsNothing,
        };
        let message = Message {
            topic: kept::topic(&publish.topic),
            payload: kept::payload(&publish.payload),
            retain: if publish.retain { Retain::Yes } else { Retain::No },
            expiry_left_s: publish.expiry_left_s,
            received,
            sender,
            ack,
        };
        if let Err((end, why)) = self.hand_on(protocol, message).await {
            self.drop_rest(protocol, why);
            return Err(end);
        }
        if let Some(packet_id) = publish.packet_id {
            self.unanswered.await_verdict(packet_id, verdict, unsettled);
        }
        Ok(())
    }

    /// MQTT 5 has a word for it (section 3.4.2.1); in 3.1.1 it ends the connection (MQTT-2.3.1-3).
    fn packet_id_in_use(&mut self, protocol: &Protocol, packet_id: NonZeroU16) -> Result<(), End> {
        self.refused(Refused::PacketIdInUse);
        if !protocol.can_refuse() {
            return Err(End::Farewell);
        }
        protocol.acknowledge(packet_id, Answer::PacketIdInUse, &mut self.socket.output);
        Ok(())
    }

    /// MQTT 5 has a word for it; to 3.1.1 an acknowledgement would say that the message was taken, so it ends the
    /// connection (MQTT-3.3.5-2 of 3.1.1).
    fn not_authorized(&mut self, protocol: &Protocol, packet_id: Option<NonZeroU16>) -> Result<(), End> {
        self.refused(Refused::OtherDevicesTopic);
        if !protocol.can_refuse() {
            return Err(End::Farewell);
        }
        if let Some(packet_id) = packet_id {
            self.unanswered.await_turn(packet_id, Answer::NotAuthorized);
        }
        Ok(())
    }

    /// Waits for room in the inbox, and for a client that has left no longer than [`LAST_MESSAGES`]. Who is still
    /// there hears meanwhile what became of earlier messages.
    async fn hand_on(&mut self, protocol: &mut Protocol, message: Message) -> Result<(), (End, Dropped)> {
        let shared = self.shared.clone();
        // One place in the queue for all of the time.
        let mut room = pin!(shared.inbox.reserve());
        let mut gone = self.socket.left;
        while !gone {
            tokio::select! {
                biased;
                place = &mut room => {
                    // The inbox closes only when the process ends.
                    place.map_err(|_| (End::Farewell, Dropped::Draining))?.send(message);
                    return Ok(());
                }
                settled = self.unanswered.settled() => {
                    let answered = self.answer(protocol, settled).and_then(|()| self.answer_settled(protocol));
                    answered.map_err(|end| (end, Dropped::IngestFailed))?;
                    self.socket.write();
                }
                () = sleep(PEER_CHECK) => gone = self.socket.peer_has_closed().await || !self.rights.are_valid(),
            }
        }
        match timeout(LAST_MESSAGES, room).await {
            Ok(Ok(place)) => place.send(message),
            _ => return Err((End::Left, Dropped::ClientLeft)),
        }
        Ok(())
    }

    /// A message found no room in the inbox: it, and what its client had sent after it, is counted as dropped.
    fn drop_rest(&mut self, protocol: &mut Protocol, why: Dropped) {
        let mut messages = 1;
        while let Ok(Some(length)) = packet_length(&self.socket.input)
            && let Ok(request) = protocol.request(&self.socket.input[..length])
        {
            self.socket.consume(length);
            if let Request::Publish(_) = request {
                self.shared.ops.metrics.received.inc();
                messages += 1;
            }
        }
        self.shared.ops.dropped(why, messages);
    }
}
