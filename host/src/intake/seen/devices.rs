//! The devices of a partition by their ids.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rollcall_wire::DeviceId;

use super::Device;

/// A table of pointers, each to a device that has its id with it: up to nine of sixteen of its places are free, and would
/// take 65 bytes more each if ids were in them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    table: HashTable<Box<Device>>,
    hasher: RandomState,
}

impl Devices {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, id: &DeviceId) -> Option<&Device> {
        self.table.find(self.hasher.hash_one(id), |device| device.id == *id).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: &DeviceId) -> Option<&mut Device> {
        self.table.find_mut(self.hasher.hash_one(id), |device| device.id == *id).map(Box::as_mut)
    }

    pub(super) fn get_or_insert_with(&mut self, id: DeviceId, new: impl FnOnce() -> Device) -> &mut Device {
        self.entry(id).or_insert_with(|| Box::new(new())).into_mut()
    }

    /// In the place of one with the same id.
    pub(super) fn insert(&mut self, device: Device) {
        self.entry(device.id).insert(Box::new(device));
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.table.iter_mut().map(Box::as_mut)
    }

    fn entry(&mut self, id: DeviceId) -> Entry<'_, Box<Device>> {
        let Self { table, hasher } = self;
        table.entry(hasher.hash_one(id), |device| device.id == id, |device| hasher.hash_one(device.id))
    }
}
