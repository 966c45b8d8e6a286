//! Where messages come from. A source puts [`Message`]s into the inbox and acknowledges each to its sender
//! only when the ingest loop has settled it. It decodes nothing and knows no store.

pub mod broker;
pub mod gateway;

use rollcall_wire::codec::Rejection;
use tokio::sync::{mpsc, oneshot};

use crate::decode::Incoming;

/// How many messages may wait for the next flush. When the inbox is full, sources stop reading.
pub const INBOX_MESSAGES: usize = 4096;

/// A message that waits to be stored.
#[derive(Debug)]
pub struct Message {
    /// The topic it was published to.
    pub topic: Box<str>,
    /// Its payload, as long as the source lets through.
    pub payload: Box<[u8]>,
    /// See [`Incoming`].
    pub retain: crate::decode::Retain,
    /// See [`Incoming`].
    pub expiry_left_s: Option<u32>,
    /// See [`Incoming`].
    pub received_at: crate::time::UnixMs,
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
            received_at: self.received_at,
        }
    }
}

/// What became of a message. All three end it: none is to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable and counted, or it was presence.
    Accepted,
    /// It was durable and counted before.
    Duplicate,
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

/// Where a source puts its messages.
pub type Inbox = mpsc::Sender<Message>;

/// Makes the queue between the sources and the ingest loop.
pub fn inbox() -> (Inbox, mpsc::Receiver<Message>) {
    mpsc::channel(INBOX_MESSAGES)
}
