//! Where messages come from. A source puts [`Message`]s into the inbox and acknowledges each to its sender
//! only when the ingest loop has settled it. It decodes nothing and knows no store.
//!
//! [`Source`] is the seam: a new kind of source is a folder here and a line in the command line's `source.rs`.

mod admission;
pub mod broker;
mod gate;
pub mod gateway;
mod keep_running;
mod kept;

use std::pin::Pin;

use tokio::sync::mpsc;

pub use self::admission::Admission;
pub use self::keep_running::{Again, keep_running};
pub use crate::credentials::Credentials;
use crate::model::Message;

/// How many messages may wait for the next flush. When the inbox is full, sources stop reading.
pub const INBOX_MESSAGES: usize = 4096;

/// Where a source puts its messages.
pub type Inbox = mpsc::Sender<Message>;

/// Makes the queue between the sources and the ingest loop.
pub fn inbox() -> (Inbox, mpsc::Receiver<Message>) {
    mpsc::channel(INBOX_MESSAGES)
}

/// What a source waits for.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Whether anything was stored before this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Nothing was ever stored.
    Empty,
    /// Something was, so that a broker's session without a past means a gap.
    Written,
}

/// A source that is set up, and takes nothing yet.
pub trait Source: Send {
    /// Takes messages from now on: they can be stored.
    fn start(self: Box<Self>, log: LogState) -> Box<dyn RunningSource>;
}

/// A source that takes messages. When it goes, it takes none, whatever it was doing.
pub trait RunningSource: Send {
    /// Completes when the source has ended without being asked to, which is a fault.
    fn ended(&mut self) -> Wait<'_>;

    /// Takes no further message, waits until those it took are acknowledged, and takes leave of their senders.
    fn drain(self: Box<Self>) -> Wait<'static>;
}
