//! A source, kept running: one that ends without being asked to is replaced by another with the same settings.

use std::sync::Arc;

use tokio::sync::watch;

use super::{LogState, Source};
use crate::ops::{Failure, GivenUp, Ops, Part, Supervised, supervise};

/// Sets up a source in the place of one that has ended.
pub type Again = Box<dyn FnMut() -> Result<Box<dyn Source>, String> + Send>;

/// Takes messages from `first`, and from what `again` sets up in its place, until `stop` says true; drains then.
///
/// # Errors
/// [`GivenUp`] when it ends, or cannot be set up, again and again.
pub async fn keep_running(
    first: Box<dyn Source>,
    again: Again,
    log: LogState,
    ops: Arc<Ops>,
    stop: watch::Receiver<bool>,
) -> Result<(), GivenUp> {
    let stopped = stopped(stop.clone());
    let source = Replaceable { first: Some((first, log)), again, stop };
    supervise(Part::Source, &ops, stopped, source).await
}

struct Replaceable {
    first: Option<(Box<dyn Source>, LogState)>,
    again: Again,
    stop: watch::Receiver<bool>,
}

impl Supervised for Replaceable {
    async fn run(&mut self) -> Result<(), Failure> {
        let (source, log) = match self.first.take() {
            Some(first) => first,
            // Something may have been stored since the first, and then a broker's session without a past is a gap.
            None => ((self.again)().map_err(Failure::MayPass)?, LogState::Written),
        };
        let mut running = source.start(log);
        tokio::select! {
            () = stopped(self.stop.clone()) => {
                running.drain().await;
                Ok(())
            }
            () = running.ended() => Err(Failure::MayPass("it ended by itself".to_owned())),
        }
    }
}

/// Completes when `stop` says true, or when nobody is left who could say so.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
