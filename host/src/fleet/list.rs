//! A page of the list of devices: which ones are wanted, in which order, from which place on.

use std::collections::BTreeMap;

use rollcall_wire::DeviceId;

use super::{Device, State};
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

/// A place in a sorted list.
pub type Place = (u64, DeviceId);

/// A device of a list: `None` when it never came.
pub type Listed = (Place, Option<Device>);

/// Which devices are wanted.
#[derive(Clone, Debug)]
pub struct List {
    /// How their ids begin.
    pub prefix: String,
    /// What is wrong with them; `None` for all.
    pub trouble: Option<Trouble>,
    /// How they are sorted.
    pub order: Order,
    /// Those behind this place.
    pub after: Option<Place>,
    /// So many at most.
    pub limit: usize,
    /// Devices are judged as of then.
    pub as_of: UnixMs,
    page: BTreeMap<Place, Option<Device>>,
}

impl List {
    /// An empty page.
    pub fn new(
        (prefix, trouble, order): (String, Option<Trouble>, Order),
        after: Option<Place>,
        limit: usize,
        as_of: UnixMs,
    ) -> Self {
        Self { prefix, trouble, order, after, limit, as_of, page: BTreeMap::new() }
    }

    /// Takes a device into the page if it belongs there.
    pub fn take(&mut self, device: Device) {
        let state = device.state(self.as_of);
        let wanted = match self.trouble {
            None => true,
            Some(Trouble::Offline) => state == State::Offline,
            Some(Trouble::Stale) => state == State::Stale,
            Some(Trouble::Gaps) => device.missing() > 0,
            Some(Trouble::NeverSeen) => false,
            Some(Trouble::Undecided) => device.row.undecided > 0,
        };
        if wanted {
            let key = match self.order {
                Order::Id => 0,
                Order::Silence => device.last_at().0,
                Order::Missing => (u64::MAX - 1).saturating_sub(device.missing()),
            };
            self.insert((key, device.id), Some(device));
        }
    }

    /// Takes a device that never came.
    pub fn take_never_seen(&mut self, id: DeviceId) {
        if self.trouble.is_none_or(|trouble| trouble == Trouble::NeverSeen) {
            let key = match self.order {
                Order::Id | Order::Silence => 0,
                Order::Missing => u64::MAX,
            };
            self.insert((key, id), None);
        }
    }

    fn insert(&mut self, place: Place, device: Option<Device>) {
        let fits = self.after.is_none_or(|after| after < place) && place.1.as_str().starts_with(&self.prefix);
        // One more than is wanted tells that there are more.
        let is_full = self.page.len() > self.limit;
        if fits && !(is_full && self.page.last_key_value().is_some_and(|(last, _)| *last < place)) {
            self.page.insert(place, device);
            if self.page.len() > self.limit + 1 {
                self.page.pop_last();
            }
        }
    }

    /// The page, and the place behind which the next one begins, if there is one.
    pub fn finish(mut self) -> (Vec<Listed>, Option<Place>) {
        let more = self.page.len() > self.limit;
        if more {
            self.page.pop_last();
        }
        let next = self.page.last_key_value().map(|(place, _)| *place).filter(|_| more);
        (self.page.into_iter().collect(), next)
    }
}
