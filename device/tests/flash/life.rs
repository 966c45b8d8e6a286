//! One device's life over many boots, with a host that counts what it is sent.

use std::collections::{BTreeMap, BTreeSet};

use embassy_futures::block_on;
use rollcall_device::config::WINDOW;
use rollcall_device::flash::FlashStore;
use rollcall_device::outbox::{Outbox, Restored, Sample};
use rollcall_device::store::Store;
use rollcall_device::{BootId, Status};
use rollcall_wire::Sequence;

use crate::model::{Model, PAGES};

/// As few as an outbox can hold and have one to drop.
pub(crate) const OUTBOX: usize = 12;

/// How a device's samples are acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// So many are on their way before the oldest is acknowledged.
    pub(crate) lag: u64,
    /// So many of a boot's first are in flight for ever.
    pub(crate) stuck: usize,
}

pub(crate) struct Life {
    flash: Model,
    habits: Habits,
    boots: u64,
    store: Option<FlashStore<Model, PAGES>>,
    outbox: Outbox<OUTBOX>,
    next_seq: u64,
    /// What the flash promised to keep, by boot id and number, and the host or the outbox is still owed.
    owed: BTreeMap<(BootId, u64), Sample>,
    /// Every number that was ever given to a sample that could be sent, with its sample.
    given: BTreeMap<(BootId, u64), Sample>,
    /// The sample that was being written when the power went: it may be there or not.
    torn: Option<(BootId, Sample)>,
    /// The numbers that are claimed, oldest first.
    in_flight: Vec<Sequence>,
}

impl Life {
    pub(crate) fn new(flash: Model, habits: Habits) -> Self {
        Self {
            flash,
            habits,
            boots: 0,
            store: None,
            outbox: Outbox::new(),
            next_seq: 0,
            owed: BTreeMap::new(),
            given: BTreeMap::new(),
            torn: None,
            in_flight: Vec::new(),
        }
    }

    pub(crate) fn flash(&self) -> &Model {
        &self.flash
    }

    pub(crate) fn cut_after(&mut self, words: u64) {
        self.flash.cut_after(words);
    }

    pub(crate) fn restore_power(&mut self) {
        self.flash.restore_power();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.flash.is_cut()
    }

    pub(crate) fn kept(&self) -> usize {
        self.given.len()
    }

    /// Memory is lost, and the flash is all there is.
    pub(crate) fn boot(&mut self) {
        self.boots += 1;
        (self.store, self.outbox, self.next_seq) = (None, Outbox::new(), 0);
        self.in_flight.clear();
        let fresh = BootId(self.boots << 32 | 0x9f3c);
        let opened = block_on(FlashStore::open(self.flash.clone(), 0, OUTBOX, fresh));
        let Ok(mut store) = opened else {
            assert!(self.is_cut(), "does not open although there is power");
            return;
        };
        let mut restored = Vec::new();
        if block_on(store.replay(|sample| restored.push(sample))).is_err() {
            assert!(self.is_cut(), "cannot be read although there is power");
            return;
        }
        let boot = store.boot();
        let newest = restored.iter().max_by_key(|sample| sample.seq);
        assert_eq!(store.last_ms(), newest.map_or(0, |newest| newest.taken_at_ms));
        let mut dropped = 0;
        for sample in &restored {
            self.check_restored(boot, sample);
            dropped += usize::from(self.outbox.restore(*sample) == Restored::InsteadOfOldest);
            self.next_seq = self.next_seq.max(sample.seq.get() + 1);
        }
        for ((owed_boot, seq), sample) in &self.owed {
            assert!(
                *owed_boot == boot && restored.contains(sample),
                "sample {seq} of {owed_boot} is lost; {boot} has {restored:?}"
            );
        }
        // The newest may have been kept just before an older one gave way to it in a full outbox.
        assert!(dropped <= 1, "{dropped} more than the outbox holds");
        let in_outbox: BTreeSet<_> = self.numbers_in_outbox();
        self.owed.retain(|(_, seq), _| in_outbox.contains(seq));
        self.torn = None;
        self.store = Some(store);
    }

    fn numbers_in_outbox(&self) -> BTreeSet<u64> {
        let mut outbox = self.outbox.clone();
        std::iter::from_fn(|| outbox.claim()).map(|sample| sample.seq.get()).collect()
    }

    fn check_restored(&mut self, boot: BootId, sample: &Sample) {
        let key = (boot, sample.seq.get());
        if self.torn == Some((boot, *sample)) {
            // It made it after all, and is now as good as any.
            self.given.insert(key, *sample);
            self.owed.insert(key, *sample);
        }
        assert_eq!(self.given.get(&key), Some(sample), "nobody took this sample");
    }

    /// Takes samples until there are so many or the power goes.
    pub(crate) fn take(&mut self, samples: u64) {
        for _ in 0..samples {
            let Some(store) = &mut self.store else { return };
            let seq = Sequence::new(self.next_seq).unwrap();
            let status = Status::new((self.boots + self.next_seq) as u8 % 7).unwrap();
            // Apart from its number, a sample tells which boot took it.
            let sample = Sample { seq, status, taken_at_ms: self.boots * 1_000_000 + self.next_seq };
            let (boot, others) = (store.boot(), self.outbox.contents());
            if block_on(store.keep(sample, || others)).is_err() {
                assert!(self.flash.is_cut(), "not kept although there is power");
                self.torn = Some((boot, sample));
                self.store = None;
                return;
            }
            self.next_seq += 1;
            let before = self.given.insert((boot, seq.get()), sample);
            assert_eq!(before, None, "number {} of {boot} is given twice", seq.get());
            self.owed.insert((boot, seq.get()), sample);
            if let Some(dropped) = self.outbox.push(sample) {
                self.owed.remove(&(boot, dropped.seq.get()));
            }
            self.acknowledge(boot);
        }
    }

    /// As the session does: the oldest unsent are claimed, as many as can be in flight, and of those the
    /// habits say which are acknowledged.
    fn acknowledge(&mut self, boot: BootId) {
        if self.habits.lag == u64::MAX {
            return;
        }
        loop {
            while self.in_flight.len() < WINDOW {
                let Some(sample) = self.outbox.claim() else { break };
                self.in_flight.push(sample.seq);
            }
            if self.outbox.len() as u64 <= self.habits.lag || self.in_flight.len() <= self.habits.stuck {
                return;
            }
            let seq = self.in_flight.remove(self.habits.stuck);
            self.outbox.acknowledge(seq);
            self.owed.remove(&(boot, seq.get()));
        }
    }
}
