//! A store in memory, for tests: it keeps what a real store keeps, answers the same, and fails on
//! request in the ways that real stores fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rollcall_wire::{DeviceId, Slot};
use tokio::sync::mpsc;

use super::devices::{self, DeviceView, DeviceWindow, Span};
use super::plan::{Plan, TailEntry, Upto, View, Window};
use super::rollup::{Chunk, Resolution};
use super::row::Row;
use super::start::{Cut, Identity, Start, Starts};
use super::{
    Beyond, Checkpoint, Checkpoints, LogStore, Logged, Recount, RowWrite, Snapshot, StoreError, WindowRow,
    merge,
};
use crate::model::{self, BySecond, Entry};
use crate::ops::check::{self, Report};

/// What the next append, or the next rollup, does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and an error is returned.
    Refuse,
    /// All is written, but the answer is lost.
    LoseReply,
    /// Only the first entry is written, and the answer is lost.
    Tear,
    /// Nothing is rolled up, and an error is returned. Appends are not concerned.
    RefuseRollup,
    /// So many rows, windows of devices and checkpoints are stored, one after the other, and an error is returned. Only the
    /// writing of rows is concerned.
    TearRows(usize),
    /// A view never answers. Nothing else is concerned.
    HangView,
    /// What is read of the log never comes. Nothing else is concerned.
    HangRead,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    entries: BTreeMap<(Slot, u64), Entry>,
    checkpoints: BTreeMap<Slot, Checkpoint>,
    rows: BTreeMap<(Slot, DeviceId), Row>,
    device_windows: BTreeMap<(Slot, DeviceId, Span), DeviceWindow>,
    /// By resolution and start; a minute's by second, the others' at their start.
    windows: BTreeMap<(Resolution, u64), BySecond>,
    starts: Starts,
    imported: BTreeSet<Identity>,
    faults: VecDeque<Fault>,
}

impl MemoryStore {
    /// Makes the next call that it concerns fail; several faults queue up.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// For ever, if that is the next fault.
    async fn hang(&self, asked: Fault) {
        let hangs = self.state().faults.pop_front_if(|fault| *fault == asked).is_some();
        if hangs {
            std::future::pending::<()>().await;
        }
    }

    /// Looks at the store as it is now.
    pub async fn checks(&self, recount: Recount, reports: mpsc::Sender<Report>) {
        let mut now = self.state().clone();
        check::look(reports, move |reporter| recount(&mut now, reporter)).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryStore {
    async fn append(&self, entries: &[Entry]) -> Result<Vec<Slot>, StoreError> {
        let mut state = self.state();
        let fault = state
            .faults
            .pop_front_if(|fault| matches!(fault, Fault::Refuse | Fault::LoseReply | Fault::Tear));
        let written = match fault {
            Some(Fault::Tear) => entries.len().min(1),
            Some(Fault::LoseReply) | None => entries.len(),
            Some(_) => 0,
        };
        let mut taken = Vec::new();
        for entry in &entries[..written] {
            if entry.number < state.starts[entry.slot.index()].first {
                taken.push(entry.slot);
                continue;
            }
            match state.entries.entry((entry.slot, entry.number)) {
                btree_map::Entry::Occupied(_) => taken.push(entry.slot),
                btree_map::Entry::Vacant(place) => {
                    place.insert(entry.clone());
                }
            }
        }
        match fault {
            Some(fault) => Err(StoreError::Unavailable(format!("injected: {fault:?}"))),
            None => Ok(taken),
        }
    }

    async fn read(&self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.hang(Fault::HangRead).await;
        let state = self.state();
        let entries = state.entries.range((slot, from)..=(slot, u64::MAX));
        Ok(entries.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn checkpoint(&self, slot: Slot) -> Result<Checkpoint, StoreError> {
        Ok(self.state().checkpoints.get(&slot).copied().unwrap_or_default())
    }

    async fn apply(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(fault) = state.faults.pop_front_if(|fault| *fault == Fault::RefuseRollup) {
            return Err(StoreError::Unavailable(format!("injected: {fault:?}")));
        }
        for chunk in chunks {
            let checkpoint = state.checkpoints.entry(chunk.slot).or_default();
            if !super::is_next(chunk, checkpoint.windows)? {
                continue;
            }
            checkpoint.windows = chunk.entries.end;
            for (second, counts) in &chunk.counts {
                for resolution in [Resolution::Minute, Resolution::Hour, Resolution::Day] {
                    let start = resolution.window_start(*second);
                    let at = if resolution == Resolution::Minute { *second } else { start };
                    *state.windows.entry((resolution, start)).or_default().entry(at).or_default() += *counts;
                }
            }
        }
        Ok(())
    }

    async fn rows(&self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.state().rows(slot, after, limit)
    }

    async fn first_rows(&self, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        merge::first_rows(self, after, limit).await
    }

    async fn write_rows(&self, writes: &[RowWrite]) -> Result<(), StoreError> {
        let mut state = self.state();
        let fault = state.faults.pop_front_if(|fault| matches!(fault, Fault::TearRows(_)));
        let steps = if let Some(Fault::TearRows(steps)) = fault { steps } else { usize::MAX };
        if state.write_rows(writes, steps) {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!("injected: {fault:?}")))
    }

    async fn beyond_rows(&self, slots: &[Slot], _: Option<&Upto>) -> Result<Beyond, StoreError> {
        let state = self.state();
        let beyond = |slot: &Slot| {
            let next = state.checkpoints.get(slot).map_or(0, |checkpoint| checkpoint.rows);
            state.entries.get(&(*slot, next)).map(|entry| entry.received_at)
        };
        Ok(Beyond::from_now(slots.iter().filter_map(beyond).min()))
    }

    async fn devices(&self, devices: &[DeviceId], hours: Range<u32>) -> Result<Vec<DeviceView>, StoreError> {
        let state = self.state();
        Ok(devices.iter().map(|device| state.device(*device, hours.clone())).collect())
    }

    async fn view(&self, plan: &Plan) -> Result<View, StoreError> {
        self.hang(Fault::HangView).await;
        let state = self.state();
        let next = |slot: Slot| state.checkpoints.get(&slot).map_or(0, |checkpoint| checkpoint.windows);
        let mut upto = [0; Slot::COUNT];
        Slot::all().for_each(|slot| upto[slot.index()] = next(slot));
        let mut windows = Vec::new();
        for (resolution, range) in &plan.whole {
            for ((_, start), counts) in
                state.windows.range((*resolution, range.start)..(*resolution, range.end))
            {
                let range = *start..start + resolution.seconds();
                windows.push(Window { counts: model::sum(counts, range.clone()), range, upto });
            }
        }
        for edge in &plan.edges {
            let first = Resolution::Minute.window_start(edge.start);
            for ((_, start), counts) in
                state.windows.range((Resolution::Minute, first)..(Resolution::Minute, edge.end))
            {
                for range in plan.cut(edge.start.max(*start)..edge.end.min(start + 60)) {
                    windows.push(Window { counts: model::sum(counts, range.clone()), range, upto });
                }
            }
        }
        windows.sort_by_key(|window| window.range.start);
        let tail = state.entries.values().filter(|entry| entry.number >= next(entry.slot));
        let tail = tail.map(|entry| Arc::new(TailEntry::new(entry.slot, entry.number, entry.counts())));
        Ok(View { windows, tail: tail.collect() })
    }

    async fn start(&self, slot: Slot) -> Result<Start, StoreError> {
        Ok(self.state().starts[slot.index()].clone())
    }

    async fn cut(&self, cut: &Cut) -> Result<bool, StoreError> {
        let Cut { slot, from, start, imported } = cut;
        let mut state = self.state();
        if state.starts[slot.index()].first != *from {
            return Ok(false);
        }
        let made = state.checkpoints.get(slot).copied().unwrap_or_default();
        super::must_be_made(*slot, start.first, made)?;
        state.starts[slot.index()] = start.clone();
        state.imported.extend(imported);
        state.entries.retain(|(of, number), _| of != slot || *number >= start.first);
        Ok(true)
    }

    async fn release(&self, _: Slot, _: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn imported(&self, identities: &[Identity]) -> Result<Vec<bool>, StoreError> {
        let state = self.state();
        Ok(identities.iter().map(|identity| state.imported.contains(identity)).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl State {
    /// Goes so many steps; were they all?
    fn write_rows(&mut self, writes: &[RowWrite], mut steps: usize) -> bool {
        let mut step = || steps.checked_sub(1).map(|left| steps = left).is_some();
        let rows = || writes.iter().flat_map(|write| write.rows.iter().map(|row| (write.slot, row)));
        for (slot, row) in rows() {
            if !step() {
                return false;
            }
            let stored = self.rows.get(&(slot, row.device));
            if stored.is_none_or(|stored| stored.upto < row.upto) {
                let closed = row.closed.clone().or_else(|| stored.and_then(|stored| stored.closed.clone()));
                self.rows.insert((slot, row.device), Row { closed, ..row.clone() });
            }
        }
        for (slot, row) in rows() {
            let key = |span| (slot, row.device, span);
            let stored = |span| Ok::<_, Infallible>(self.device_windows.get(&key(span)).cloned());
            let Ok(windows) = devices::moved(&row.sealed, stored);
            for window in windows {
                if !step() {
                    return false;
                }
                self.device_windows.insert(key(window.span), window);
            }
        }
        for write in writes {
            let Some(upto) = write.checkpoint else { continue };
            if !step() {
                return false;
            }
            let checkpoint = self.checkpoints.entry(write.slot).or_default();
            checkpoint.rows = checkpoint.rows.max(upto);
        }
        true
    }

    fn device(&self, device: DeviceId, hours: Range<u32>) -> DeviceView {
        let slot = Slot::of(&device);
        let row = self.rows.get(&(slot, device)).map(|row| Row { closed: None, ..row.clone() });
        let key = |number| (slot, device, Span::of_number(number));
        let windows = Span::numbers(&hours)
            .into_iter()
            .flat_map(|numbers| self.device_windows.range(key(numbers.start)..key(numbers.end)));
        DeviceView { row, windows: windows.map(|(_, window)| window.clone()).collect() }
    }
}

impl Snapshot for State {
    fn starts(&mut self) -> Result<Starts, StoreError> {
        Ok(self.starts.clone())
    }

    fn checkpoints(&mut self) -> Result<Checkpoints, StoreError> {
        let mut checkpoints = Checkpoints::default();
        self.checkpoints.iter().for_each(|(slot, checkpoint)| checkpoints[slot.index()] = *checkpoint);
        Ok(checkpoints)
    }

    fn windows(
        &mut self,
        resolution: Resolution,
        from: u64,
        limit: usize,
    ) -> Result<Vec<WindowRow>, StoreError> {
        let stored = self.windows.range((resolution, from)..=(resolution, u64::MAX)).take(limit);
        let row = |((_, start), counts): (&(Resolution, u64), &BySecond)| {
            let parts = if resolution == Resolution::Minute { counts.clone() } else { BySecond::new() };
            let sum = model::sum(counts, 0..u64::MAX);
            WindowRow { start: *start, counts: sum, parts, upto: [0; Slot::COUNT] }
        };
        Ok(stored.map(row).collect())
    }

    fn rows(&mut self, slot: Slot, after: Option<DeviceId>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows.iter().filter(|((of, device), _)| *of == slot && Some(*device) > after);
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }

    fn device_windows(
        &mut self,
        slot: Slot,
        from: Option<(DeviceId, Span)>,
        limit: usize,
    ) -> Result<Vec<(DeviceId, DeviceWindow)>, StoreError> {
        let is_wanted =
            |(of, device, span): &(Slot, DeviceId, Span)| *of == slot && Some((*device, *span)) >= from;
        let windows = self.device_windows.iter().filter(|(key, _)| is_wanted(key));
        Ok(windows.take(limit).map(|((_, device, _), window)| (*device, window.clone())).collect())
    }

    fn device(&mut self, device: DeviceId) -> Result<DeviceView, StoreError> {
        let row = self.rows.get(&(Slot::of(&device), device)).cloned();
        Ok(DeviceView { row, ..State::device(self, device, 0..u32::MAX) })
    }

    fn read(&mut self, slot: Slot, from: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let entries = self.entries.range((slot, from)..=(slot, u64::MAX)).take(limit);
        Ok(entries.map(|(_, entry)| Logged { entry: entry.clone(), counts: entry.counts() }).collect())
    }
}
