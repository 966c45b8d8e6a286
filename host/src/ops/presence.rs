//! Which devices have left: they said so, or their last wills did. Best effort, beside what is stored: it is kept in
//! memory, by the process that takes messages, and a status that comes later shows that a device is back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rollcall_wire::DeviceId;

use crate::model::UnixMs;

/// Of so many devices it is kept. More are offline when nothing came of them for long.
const LEFT_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Presence(Mutex<HashMap<DeviceId, UnixMs>>);

impl Presence {
    /// A device has left.
    pub fn left(&self, device: DeviceId, at: UnixMs) {
        let mut left = self.lock();
        if left.len() < LEFT_MAX || left.contains_key(&device) {
            left.insert(device, at);
        }
    }

    /// A device has come.
    pub fn came(&self, device: &DeviceId) {
        self.lock().remove(device);
    }

    /// When a device left, if it did not come since.
    pub fn left_at(&self, device: &DeviceId) -> Option<UnixMs> {
        self.lock().get(device).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, UnixMs>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_known_until_it_comes_back_and_of_so_many_only() {
        let presence = Presence::default();
        let device = |number: usize| DeviceId::new(&format!("d{number}")).unwrap();
        (0..=LEFT_MAX).for_each(|number| presence.left(device(number), UnixMs(number as u64)));
        assert_eq!(presence.left_at(&device(LEFT_MAX)), None);
        presence.left(device(7), UnixMs(8));
        assert_eq!(presence.left_at(&device(7)), Some(UnixMs(8)));
        presence.came(&device(7));
        assert_eq!(presence.left_at(&device(7)), None);
        presence.left(device(LEFT_MAX), UnixMs(9));
        assert_eq!(presence.left_at(&device(LEFT_MAX)), Some(UnixMs(9)));
    }
}
