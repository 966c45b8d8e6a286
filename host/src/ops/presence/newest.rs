//! The newest connection of each device, of those that connected last: so much memory is set aside, whatever the fleet.
//! It knows nothing of time: what comes is judged by what came before it.

use std::collections::HashMap;
use std::mem;

use rollcall_wire::{ConnectionId, DeviceId};

/// Of at least so many devices, and at most twice as many, the newest connection is known: 17 MB. Wills come late by a
/// keep-alive, a minute and a half; of devices that connected longer ago than all of these, each is taken for news.
const KNOWN_MIN: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Who was heard since the others were moved to `earlier`.
    recent: HashMap<DeviceId, Known>,
    earlier: HashMap<DeviceId, Known>,
}

/// The newest connection of a device.
#[derive(Clone, Copy, Debug)]
struct Known {
    run: Run,
    number: u32,
    has_ended: bool,
    /// The run before, or the same where none is known.
    previous: Run,
}

/// Boot and run in one: both are random, so that what differs in either differs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run(u64);

impl Run {
    fn of(connection: &ConnectionId) -> Self {
        Self(connection.boot.0 ^ connection.run.map_or(0, |run| run.0))
    }
}

impl Newest {
    /// A connection of a device is said to have come, or to have ended: is it news?
    pub(super) fn is_news(&mut self, device: DeviceId, connection: &ConnectionId, is_online: bool) -> bool {
        if let Some(known) = self.recent.get_mut(&device) {
            return known.is_news(connection, is_online);
        }
        let (known, is_news) = match self.earlier.remove(&device) {
            Some(mut known) => {
                let is_news = known.is_news(connection, is_online);
                (known, is_news)
            }
            None => (Known::first(connection, is_online), true),
        };
        if self.recent.len() == KNOWN_MIN {
            self.earlier = mem::take(&mut self.recent);
        }
        self.recent.insert(device, known);
        is_news
    }
}

impl Known {
    fn first(connection: &ConnectionId, is_online: bool) -> Self {
        let run = Run::of(connection);
        Self { run, number: connection.number, has_ended: !is_online, previous: run }
    }

    fn is_news(&mut self, connection: &ConnectionId, is_online: bool) -> bool {
        let (run, number) = (Run::of(connection), connection.number);
        if run == self.run {
            // A connection ends once.
            let is_news = number > self.number || number == self.number && !is_online && !self.has_ended;
            if is_news {
                (self.number, self.has_ended) = (number, !is_online);
            }
            is_news
        } else if run == self.previous {
            false
        } else if is_online {
            // Runs have no order but that in which they come.
            *self = Self { previous: self.run, ..Self::first(connection, is_online) };
            true
        } else {
            // The end of one that never came. While another run is there it was before that, whose own end is told too.
            self.has_ended
        }
    }
}

#[cfg(test)]
mod tests {
    use rollcall_wire::BootId;

    use super::*;

    #[test]
    fn of_so_many_devices_the_newest_connection_is_known_and_of_no_more_than_twice_as_many() {
        let mut newest = Newest::default();
        let device = |number: usize| DeviceId::new(&format!("d{number}")).unwrap();
        let connection = |number| ConnectionId { boot: BootId(7), run: None, number };
        for number in 0..=2 * KNOWN_MIN {
            assert!(newest.is_news(device(number), &connection(2), true));
            // It is heard again and again, and so not forgotten.
            assert!(!newest.is_news(device(1), &connection(1), false) || number < 1);
            assert!(newest.recent.len() + newest.earlier.len() <= 2 * KNOWN_MIN);
        }
        assert!(!newest.is_news(device(2 * KNOWN_MIN), &connection(1), false));
        assert!(!newest.is_news(device(KNOWN_MIN + 1), &connection(1), false));
        assert!(newest.is_news(device(0), &connection(1), false), "it is forgotten, and taken at its word");
    }
}
