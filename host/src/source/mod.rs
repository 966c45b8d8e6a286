//! Where messages come from. A source puts [`Message`]s into the inbox and acknowledges each to its sender
//! only when the ingest loop has settled it. It decodes nothing and knows no store.

pub mod broker;
pub mod gateway;

use tokio::sync::mpsc;

use crate::model::Message;

/// How many messages may wait for the next flush. When the inbox is full, sources stop reading.
pub const INBOX_MESSAGES: usize = 4096;

/// Where a source puts its messages.
pub type Inbox = mpsc::Sender<Message>;

/// Makes the queue between the sources and the ingest loop.
pub fn inbox() -> (Inbox, mpsc::Receiver<Message>) {
    mpsc::channel(INBOX_MESSAGES)
}
