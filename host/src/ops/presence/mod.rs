//! Which devices have left: they said so, or their last wills did. Best effort, beside what is stored: it is kept in
//! memory, by the process that takes messages, and a status that comes later shows that a device is back.
//!
//! A will may come late, when its device has long been connected again. So `newest` knows the newest connection of each
//! device, and what is said of an older one is no news.

mod newest;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rollcall_wire::{Announcement, DeviceId};

use self::newest::Newest;
use crate::model::UnixMs;

/// Of so many devices it is kept that they have left. More are offline when nothing came of them for long.
const LEFT_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Presence(Mutex<Devices>);

#[derive(Debug, Default)]
struct Devices {
    left: HashMap<DeviceId, UnixMs>,
    newest: Newest,
}

impl Presence {
    /// A device says that it has come or left, or its last will does. Without a connection it is taken for news.
    pub fn heard(&self, device: DeviceId, announcement: &Announcement, at: UnixMs) {
        let Announcement { is_online, connection } = announcement;
        let mut devices = self.lock();
        if connection.is_some_and(|connection| !devices.newest.is_news(device, &connection, *is_online)) {
            return;
        }
        let left = &mut devices.left;
        if *is_online {
            left.remove(&device);
        } else if left.len() < LEFT_MAX || left.contains_key(&device) {
            left.insert(device, at);
        }
    }

    /// When a device left, if it did not come since.
    pub fn left_at(&self, device: &DeviceId) -> Option<UnixMs> {
        self.lock().left.get(device).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Devices> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
