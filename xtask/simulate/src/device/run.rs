//! What a device runs, from boot to end.

use std::future::pending;

use rollcall_device::clock::Continued;
use rollcall_device::flash::FlashStore;
use rollcall_device::store::{Store, Volatile};
use rollcall_device::{Board, BootId, Clock, Config, Emitter, RunId, Stats};

use super::flash::PAGES;
use super::hardware::{DeviceClock, Kept, Sampler};
use super::{Device, Outbox};
use crate::net::Stack;
use crate::oracle::Sums;
use crate::time::now_ms;

/// As many samples as the flash has room for.
const FLASH_OUTBOX: usize = 12;

impl Device {
    pub(super) async fn run(&self, stats: &Stats) {
        let clock = DeviceClock { begun_ms: now_ms(), fast_ppm: self.build.fast_ppm };
        let drawn = BootId(self.chance.borrow_mut().bits());
        let config = Config::new(self.id, drawn, ([192, 0, 2, 1], 1883).into());
        match self.build.outbox {
            Outbox::Large => self.emit(Emitter::<300>::new(config, stats), drawn, clock, Volatile).await,
            Outbox::Small => self.emit(Emitter::<16>::new(config, stats), drawn, clock, Volatile).await,
            Outbox::Flash => self.run_from_flash(config, stats, clock).await,
        }
    }

    async fn run_from_flash(&self, mut config: Config<'_>, stats: &Stats, clock: DeviceClock) {
        let (flash, drawn) = (self.flash.borrow().clone(), config.boot);
        let Ok(mut store) = FlashStore::<_, PAGES>::open(flash, 0, FLASH_OUTBOX, drawn).await else {
            return self.fails_or_dies("its flash cannot be opened").await;
        };
        config.run = Some(RunId(drawn.0));
        config.boot = store.boot();
        let (boot, clock) = (store.boot(), Continued::new(clock, store.last_ms()));
        let mut emitter = Emitter::<FLASH_OUTBOX>::new(config, stats);
        let replayed = store.replay(|sample| {
            let outcome = self.scene.oracle().restored(self.id, boot, sample);
            self.scene.expect(outcome);
            emitter.restore(sample);
        });
        if replayed.await.is_err() {
            return self.fails_or_dies("its flash cannot be read").await;
        }
        self.emit(emitter, boot, clock, store).await;
    }

    async fn emit<const N: usize>(
        &self,
        mut emitter: Emitter<'_, N>,
        boot: BootId,
        clock: impl Clock,
        store: impl Store,
    ) {
        self.scene.note(format_args!("{} boots as {boot}", self.id));
        let mut rng = self.chance.borrow_mut().fork();
        let mut sensor = Sampler(rng.fork());
        let net = Stack(self.line.clone());
        let store = Kept { device: self, boot, store };
        let board = Board { net: &net, clock: &clock, rng: &mut rng, sensor: &mut sensor };
        let snapshot = emitter.run_with(board, store, self.stopped(&clock)).await;
        self.scene.note(format_args!("{} ends: {snapshot:?}", self.id));
        self.scene.oracle().ended(self.id, Sums::of(&snapshot, false));
        self.has_ended.set(true);
    }

    /// Without power nothing goes on; with it, nothing may fail.
    pub(super) async fn fails_or_dies(&self, how: &str) {
        if !self.flash.borrow().is_cut() {
            return self.scene.fail("flash", format!("{}: {how}", self.id));
        }
        self.scene.fired(crate::coverage::Kind::PowerCutInFlash);
        self.doom.notify_one();
        pending().await
    }
}
