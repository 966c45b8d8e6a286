//! A page of the list of devices: which ones are wanted, in which order, from which place on.

use std::collections::BTreeMap;

use rollcall_wire::DeviceId;

use super::{FleetDevice, State};
use crate::model::UnixMs;

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// [`State::Offline`].
    Offline,
    /// [`State::Stale`].
    Stale,
    /// Samples of it are missing.
    Gaps,
    /// It has a credential, and never came.
    NeverSeen,
    /// Of some of its messages it is not known whether they were counted.
    Undecided,
}

/// By what a list is sorted; devices that are equal in it, by their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By their ids.
    #[default]
    Id,
    /// Those that were silent longest stand first, before them those that never came.
    Silence,
    /// Those of which most is missing stand first, and last those that never came.
    Missing,
}

/// A position in a sorted list.
pub type Position = (u64, DeviceId);

/// A device of a list: `None` when it never came.
pub type Listed = (Position, Option<FleetDevice>);

/// Which devices are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How their ids begin.
    pub prefix: String,
    /// What is wrong with them; `None` for all.
    pub trouble: Option<Trouble>,
    /// How they are sorted.
    pub order: Order,
    /// Those behind this position.
    pub after: Option<Position>,
    /// So many at most.
    pub limit: usize,
}

/// A page that is being filled.
#[derive(Debug)]
pub struct List {
    wanted: Wanted,
    /// Devices are judged as of then.
    as_of: UnixMs,
    page: BTreeMap<Position, Option<FleetDevice>>,
}

impl List {
    /// An empty page.
    pub fn new(wanted: Wanted, as_of: UnixMs) -> Self {
        Self { wanted, as_of, page: BTreeMap::new() }
    }

    /// Takes a device into the page if it belongs there.
    pub fn take(&mut self, device: FleetDevice) {
        let state = device.state(self.as_of);
        let is_wanted = match self.wanted.trouble {
            None => true,
            Some(Trouble::Offline) => state == State::Offline,
            Some(Trouble::Stale) => state == State::Stale,
            Some(Trouble::Gaps) => device.missing() > 0,
            Some(Trouble::NeverSeen) => false,
            Some(Trouble::Undecided) => device.row.undecided > 0,
        };
        if is_wanted {
            let key = match self.wanted.order {
                Order::Id => 0,
                Order::Silence => device.last_at().0,
                Order::Missing => (u64::MAX - 1).saturating_sub(device.missing()),
            };
            self.insert((key, device.id), Some(device));
        }
    }

    /// Takes a device that never came.
    pub fn take_never_seen(&mut self, id: DeviceId) {
        if self.wanted.trouble.is_none_or(|trouble| trouble == Trouble::NeverSeen) {
            let key = match self.wanted.order {
                Order::Id | Order::Silence => 0,
                Order::Missing => u64::MAX,
            };
            self.insert((key, id), None);
        }
    }

    fn insert(&mut self, position: Position, device: Option<FleetDevice>) {
        let Wanted { prefix, after, limit, .. } = &self.wanted;
        if after.is_none_or(|after| after < position) && position.1.as_str().starts_with(prefix) {
            self.page.insert(position, device);
            // One more than is wanted tells that there are more.
            if self.page.len() > limit + 1 {
                self.page.pop_last();
            }
        }
    }

    /// The page, and the position behind which the next one begins, if there is one.
    pub fn finish(mut self) -> (Vec<Listed>, Option<Position>) {
        let more = self.page.len() > self.wanted.limit;
        if more {
            self.page.pop_last();
        }
        let next = self.page.last_key_value().map(|(position, _)| *position).filter(|_| more);
        (self.page.into_iter().collect(), next)
    }
}
