//! A message as it arrived, what became of it, and who waits to hear that.

use rollcall_wire::codec::Rejection;
use tokio::sync::oneshot;

use super::{Moment, UnixMs};

/// What a source knows of a message.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Was it published with the retain flag?
    pub retain: Retain,
    /// What is left of its Message Expiry Interval, in seconds, if it has one.
    pub expiry_left_s: Option<u32>,
    /// When the host received it.
    pub received_at: UnixMs,
}

/// MQTT's retain flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// The message is passed on once.
    No,
    /// A broker keeps the message for later subscribers.
    Yes,
}

/// A message that waits to be stored.
#[derive(Debug)]
pub struct Message {
    /// The topic it was published to.
    pub topic: Box<str>,
    /// Its payload, as long as the source lets through.
    pub payload: Box<[u8]>,
    /// See [`Incoming`].
    pub retain: Retain,
    /// See [`Incoming`].
    pub expiry_left_s: Option<u32>,
    /// When the host received it.
    pub received: Moment,
    /// Can its sender hear that it is refused?
    pub sender: Sender,
    /// To be settled once.
    pub ack: Ack,
}

impl Message {
    /// The message as the decoder takes it.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            topic: &self.topic,
            payload: &self.payload,
            retain: self.retain,
            expiry_left_s: self.expiry_left_s,
            received_at: self.received.at,
        }
    }
}

/// Who waits for a message to be settled: can it hear that it is refused?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// MQTT 5 and QoS 1 at the gateway: by the reason code of the PUBACK.
    HearsRefusal,
    /// It was acknowledged already, or whatever is answered counts as success: a broker's, 3.1.1's, QoS 0.
    HearsNothing,
}

/// What became of a message. Each ends it: none is to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable and counted, or it was presence.
    Accepted,
    /// It was durable and counted before.
    Duplicate,
    /// Whether it was counted before cannot be told: it is durable as undecided, and not counted.
    Undecided,
    /// It will never be counted.
    Rejected(Rejection),
}

/// The sender of a message waits for this. Dropped unsettled, it says that the message may not be stored.
#[derive(Debug)]
pub struct Ack(oneshot::Sender<Verdict>);

impl Ack {
    /// An acknowledgement and where it will be heard.
    pub fn new() -> (Self, oneshot::Receiver<Verdict>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Tells the sender. One that is gone meanwhile is no fault: it will send the message again.
    pub fn settle(self, verdict: Verdict) {
        let _ = self.0.send(verdict);
    }
}
