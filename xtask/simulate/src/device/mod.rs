//! A device: the real emitter on simulated hardware. It can be reset, frozen, and cut off its power.

#[expect(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is the flash of the device's own tests, which use more of it and may panic"
)]
#[path = "../../../../device/tests/flash/model.rs"]
mod flash;
mod hardware;
mod run;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rollcall_device::{DeviceId, Stats};
use tokio::sync::Notify;

use self::flash::Model;
use crate::chance::Chance;
use crate::net::Line;
use crate::oracle::Sums;
use crate::process::Process;
use crate::scene::Scene;
use crate::time::{now_ms, sleep};

/// What a device is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    /// Millionths by which its clock runs fast.
    pub(crate) fast_ppm: i64,
    /// Where it keeps its samples.
    pub(crate) outbox: Outbox,
    /// When it is switched on, in milliseconds of the run.
    pub(crate) starts_ms: u64,
}

/// The kinds of outboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outbox {
    /// In memory, as boards have it by default: 300.
    Large,
    /// In memory, so small that it overflows.
    Small,
    /// In flash.
    Flash,
}

/// See the module.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) line: Rc<Line>,
    pub(crate) build: Build,
    scene: Arc<Scene>,
    chance: RefCell<Chance>,
    stop: Rc<Stop>,
    flash: RefCell<Model>,
    running: RefCell<Running>,
    /// Hears that the power is gone.
    doom: Notify,
    is_off: Cell<bool>,
    has_ended: Cell<bool>,
}

/// When to stop sampling. All hear of it in the order in which they wait, which a channel of tokio's would draw.
#[derive(Default)]
pub(crate) struct Stop {
    /// Until when to drain, in milliseconds of the run, once sampling is over.
    drain_until_ms: Cell<Option<u64>>,
    is_over: Notify,
}

impl Stop {
    /// Sampling is over.
    pub(crate) fn stop(&self, drain_until_ms: u64) {
        self.drain_until_ms.set(Some(drain_until_ms));
        self.is_over.notify_waiters();
    }

    async fn drain_until_ms(&self) -> u64 {
        loop {
            let is_over = self.is_over.notified();
            if let Some(drain_until_ms) = self.drain_until_ms.get() {
                return drain_until_ms;
            }
            is_over.await;
        }
    }
}

#[derive(Default)]
struct Running {
    process: Process,
    stats: Rc<Stats>,
}

impl Device {
    pub(crate) fn new(
        id: DeviceId,
        build: Build,
        line: Rc<Line>,
        scene: Arc<Scene>,
        chance: Chance,
        stop: Rc<Stop>,
    ) -> Rc<Self> {
        scene.oracle().add_device(id);
        Rc::new(Self {
            id,
            line,
            build,
            scene,
            chance: RefCell::new(chance),
            stop,
            flash: RefCell::new(Model::new()),
            running: RefCell::default(),
            doom: Notify::new(),
            is_off: Cell::new(true),
            has_ended: Cell::new(false),
        })
    }

    /// It is switched on for the first time.
    pub(crate) fn start(self: &Rc<Self>) {
        self.boot_after(self.build.starts_ms);
        let device = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                device.doom.notified().await;
                let off_ms = device.chance.borrow_mut().pick(&[10, 2_000, 20_000]);
                device.reset(off_ms);
            }
        });
    }

    fn boot_after(self: &Rc<Self>, off_ms: u64) {
        self.is_off.set(true);
        let device = self.clone();
        tokio::task::spawn_local(async move {
            sleep(off_ms).await;
            device.is_off.set(false);
            device.boot();
        });
    }

    fn boot(self: &Rc<Self>) {
        self.flash.borrow_mut().restore_power();
        let running = Running::default();
        let (process, stats) = (running.process.clone(), running.stats.clone());
        *self.running.borrow_mut() = running;
        let device = self.clone();
        process.spawn(async move { device.run(&stats).await });
    }

    /// It loses what is in its memory, and comes back after so long; false when it is off already, or has ended.
    pub(crate) fn reset(self: &Rc<Self>, off_ms: u64) -> bool {
        if self.is_off.get() || self.has_ended() {
            return false;
        }
        self.scene.note(format_args!("{} is reset", self.id));
        // A peer hears of it, or does not.
        if self.chance.borrow_mut().percent(50) {
            self.line.half_open();
        } else {
            self.line.cut();
        }
        self.switch_off();
        self.boot_after(off_ms);
        true
    }

    /// The power goes after so many more words are written to flash; false when it has none.
    pub(crate) fn cut_power_after(&self, words: u64) -> bool {
        let has_flash = self.build.outbox == Outbox::Flash && !self.is_off.get() && !self.has_ended();
        if has_flash {
            self.flash.borrow_mut().cut_after(words);
        }
        has_flash
    }

    /// It does nothing until [`Device::thaw`].
    pub(crate) fn freeze(&self) -> bool {
        self.running.borrow().process.freeze();
        !self.is_off.get()
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.running.borrow().process.thaw();
    }

    /// It is gone, with what is in its memory.
    pub(crate) fn switch_off(&self) {
        let running = self.running.borrow();
        running.process.kill();
        if let Some(panic) = running.process.panic() {
            self.scene.fail("panic", format!("{}: {panic}", self.id));
        }
        if !self.has_ended.get() {
            let is_kept = self.build.outbox == Outbox::Flash;
            self.scene.oracle().ended(self.id, Sums::of(&running.stats.snapshot(), is_kept));
        }
    }

    /// Faults are over: it is not to be cut off its power any more.
    pub(crate) fn heal(&self) {
        self.thaw();
        if !self.flash.borrow().is_cut() {
            self.flash.borrow_mut().restore_power();
        }
    }

    /// Has it stopped, with nothing left in its outbox?
    pub(crate) fn is_drained(&self) -> bool {
        self.has_ended() && self.running.borrow().stats.snapshot().outbox == 0
    }

    /// Has it stopped?
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    async fn stopped(&self, clock: &impl rollcall_device::Clock) -> u64 {
        let drain_until_ms = self.stop.drain_until_ms().await;
        clock.now_ms() + drain_until_ms.saturating_sub(now_ms())
    }
}
