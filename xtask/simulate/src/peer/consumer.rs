//! The host's side of a broker: takes what it delivers, and acknowledges what is stored.

use std::collections::VecDeque;
use std::rc::Rc;

use rollcall_host::model::Sender;
use rollcall_host::ops::Part;

use super::Taking;
use super::broker::Broker;
use super::taking::settled;
use crate::chance::Chance;
use crate::time::{now_ms, sleep, sleep_until};

/// The pause before the next attempt to connect.
const AGAIN_MS: u64 = 500;

/// Takes messages until the process ends or drains.
pub(crate) async fn consume(
    broker: Rc<Broker>,
    name: u64,
    taking: Rc<Taking>,
    delay: (u64, u64),
    mut chance: Chance,
) {
    while !taking.is_draining.get() {
        taking.ops.unhealthy(Part::Source, &"not connected to the broker");
        sleep(AGAIN_MS.min(chance.within(delay.0, delay.1) * 2 + 1)).await;
        let Some(connection) = broker.connect(name) else {
            sleep(AGAIN_MS).await;
            continue;
        };
        taking.ops.healthy(Part::Source);
        let ended = connected(&broker, name, connection, &taking, delay, &mut chance).await;
        if ended {
            return;
        }
        broker.leave(name, false);
    }
}

/// Until the connection ends; true when the host drains, and all is acknowledged.
async fn connected(
    broker: &Broker,
    name: u64,
    connection: u64,
    taking: &Rc<Taking>,
    delay: (u64, u64),
    chance: &mut Chance,
) -> bool {
    let mut waiting = VecDeque::new();
    // Acknowledgements on their way, and when each arrives.
    let mut leaving = VecDeque::<(u64, u64)>::new();
    loop {
        let is_draining = taking.is_draining.get();
        if is_draining && waiting.is_empty() && leaving.is_empty() {
            return true;
        }
        let next_ms = leaving.front().map_or(u64::MAX, |(at_ms, _)| *at_ms);
        tokio::select! {
            biased;
            () = sleep_until(next_ms), if !leaving.is_empty() => {
                if let Some((_, tag)) = leaving.pop_front() {
                    broker.acknowledge(name, connection, tag);
                }
            }
            (pending, verdict) = settled(&mut waiting) => {
                if verdict.is_none() {
                    // It may not be stored: only a new connection makes the broker deliver it again.
                    return false;
                }
                let last_ms = leaving.back().map_or(0, |(at_ms, _)| *at_ms);
                leaving.push_back((last_ms.max(now_ms() + chance.within(delay.0, delay.1)), pending.tag));
            }
            () = taking.drains.notified(), if !is_draining => {}
            delivery = broker.next(name, connection), if !is_draining => {
                let Ok(delivery) = delivery else { return false };
                match taking.take(delivery.publish, Sender::HearsNothing, delivery.waited_ms, delivery.tag).await {
                    Some(pending) => waiting.push_back(pending),
                    None => return false,
                }
            }
        }
    }
}
