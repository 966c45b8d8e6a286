//! The host's process: its ingest loop over a store, and what brings it messages. Whoever started it starts it again
//! when it ends.

mod life;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rollcall_host::intake::FlushInterval;
use rollcall_host::log::RedbStore;
use tokio::sync::Notify;

use self::life::Life;
use crate::chance::Chance;
use crate::disk::{Disk, Trouble};
use crate::net::Doors;
use crate::oracle::Blind;
use crate::peer::Echoes;
use crate::peer::broker::Broker;
use crate::scene::Scene;
use crate::store::{Conditions, Faulty, Store};
use crate::time::{now_ms, sleep, sleep_until};

/// How long whoever started it waits before it is started again.
const AGAIN_MS: u64 = 1_000;

/// Where messages come from.
#[derive(Clone)]
pub(crate) enum Source {
    Gateway(Doors),
    /// The broker, and how long bytes are on their way to it and back.
    Broker(Rc<Broker>, (u64, u64)),
}

/// Where the log is.
#[derive(Clone)]
pub(crate) enum Place {
    /// In a store that outlives the process.
    Apart(Store),
    /// In the embedded store, on this disk.
    Disk(Disk),
}

/// How it ends when it is not asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `kill -9`: what it wrote is with the system, synced or not.
    Killed,
    /// The machine's power is cut.
    PowerLost,
}

/// What a host is made of.
pub(crate) struct Host {
    pub(crate) scene: Arc<Scene>,
    pub(crate) name: u64,
    pub(crate) interval: FlushInterval,
    pub(crate) source: Source,
    pub(crate) place: Place,
    pub(crate) conditions: Conditions,
    pub(crate) echoes: Echoes,
    pub(crate) chance: RefCell<Chance>,
    life: RefCell<Option<Rc<Life>>>,
    /// Not before this is it started again.
    down_until_ms: Cell<u64>,
}

/// What two hosts over one store have in common.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) scene: Arc<Scene>,
    pub(crate) interval: FlushInterval,
    pub(crate) source: Source,
    pub(crate) place: Place,
    pub(crate) conditions: Conditions,
    pub(crate) echoes: Echoes,
}

impl Host {
    pub(crate) fn new(name: u64, setup: Setup, chance: Chance) -> Rc<Self> {
        let Setup { scene, interval, source, place, conditions, echoes } = setup;
        let (chance, life, down_until_ms) = (RefCell::new(chance), RefCell::default(), Cell::new(0));
        Rc::new(Self {
            scene,
            name,
            interval,
            source,
            place,
            conditions,
            echoes,
            chance,
            life,
            down_until_ms,
        })
    }

    /// Keeps it running, until the future is dropped.
    pub(crate) async fn keep_running(self: &Rc<Self>) {
        loop {
            sleep_until(self.down_until_ms.get()).await;
            let Some(doom) = self.start() else {
                sleep(AGAIN_MS).await;
                continue;
            };
            doom.notified().await;
            if self.life().is_some_and(|life| Arc::ptr_eq(&life.doom, &doom)) {
                self.down_until_ms.set(now_ms() + AGAIN_MS);
                self.end(self.chance.borrow_mut().pick(&[End::Killed, End::PowerLost]));
            }
        }
    }

    /// Starts the process; `None` when it cannot start now. What it returns hears that it is to end.
    pub(crate) fn start(self: &Rc<Self>) -> Option<Arc<Notify>> {
        let doom = Arc::new(Notify::new());
        let store = match &self.place {
            Place::Apart(store) => store.clone(),
            Place::Disk(disk) => Store::Redb(self.open(disk, &doom)?),
        };
        self.scene.note(format_args!("host {} starts", self.name));
        let faulty = Faulty {
            store,
            scene: self.scene.clone(),
            conditions: self.conditions.clone(),
            doom: doom.clone(),
            disk: self.disk().cloned(),
            panics: Arc::default(),
        };
        *self.life.borrow_mut() = Some(Life::start(self, Arc::new(faulty)));
        Some(doom)
    }

    fn open(&self, disk: &Disk, doom: &Arc<Notify>) -> Option<RedbStore> {
        let (opened, mounted_doom) = (disk.clone(), doom.clone());
        match RedbStore::over(move || opened.open(mounted_doom.clone())) {
            Ok(store) => Some(store),
            Err(error) => {
                self.scene.note(format_args!("the store cannot be opened: {error}"));
                if disk.has_flipped() {
                    self.scene.damaged();
                } else if !disk.is_in_trouble() {
                    self.scene.fail("open", error.to_string());
                }
                self.lose(disk);
                None
            }
        }
    }

    /// The processes that use the disk are gone, and so may the power be.
    fn lose(&self, disk: &Disk) {
        if disk.trouble() == Some(Trouble::Power) {
            disk.lose_power();
            disk.heal();
        } else {
            disk.forsake();
        }
    }

    /// It is gone at once, and comes back after so long.
    pub(crate) fn kill(&self, end: End, restart_ms: u64) -> bool {
        let was_alive = self.life().is_some();
        self.down_until_ms.set(now_ms() + restart_ms);
        self.end(end);
        was_alive
    }

    fn end(&self, end: End) {
        self.scene.note(format_args!("host {} ends: {end:?}", self.name));
        if let Some(disk) = self.disk() {
            match end {
                End::Killed => self.lose(disk),
                End::PowerLost => disk.lose_power(),
            }
        }
        if let Some(life) = self.life.borrow_mut().take() {
            life.kill(self);
        }
    }

    /// Stops as on SIGTERM: takes nothing more, stores what it has, and ends. It comes back after so long.
    ///
    /// # Errors
    /// Why it had to be killed in the end.
    pub(crate) async fn stop(&self, restart_ms: u64) -> Result<(), String> {
        let Some(life) = self.life() else { return Ok(()) };
        let drained = life.drain(self).await;
        if life.process.is_dead() {
            return drained;
        }
        self.down_until_ms.set(now_ms() + restart_ms);
        match &drained {
            Ok(()) => {
                let life = self.life.borrow_mut().take();
                // The store is closed with it.
                life.into_iter().for_each(|life| life.kill(self));
            }
            Err(_) => self.end(End::Killed),
        }
        drained
    }

    /// It does nothing until [`Host::thaw`]; says whether it did something before.
    pub(crate) fn freeze(&self) -> bool {
        self.life().inspect(|life| life.process.freeze()).is_some()
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.life().into_iter().for_each(|life| life.process.thaw());
    }

    /// Does it run?
    pub(crate) fn is_alive(&self) -> bool {
        self.life().is_some()
    }

    fn life(&self) -> Option<Rc<Life>> {
        self.life.borrow().clone()
    }

    fn disk(&self) -> Option<&Disk> {
        match &self.place {
            Place::Apart(_) => None,
            Place::Disk(disk) => Some(disk),
        }
    }

    /// Why it is not ready, if it is not.
    pub(crate) fn reason(&self) -> Option<String> {
        self.life().map_or(Some("it does not run".to_owned()), |life| life.ops.reason())
    }

    /// It has to be ready by now. What may keep it from that is a bit that has flipped, if it says so.
    pub(crate) fn is_not_ready(&self, reason: String) {
        if self.disk().is_some_and(Disk::has_flipped) && reason.contains("is damaged") {
            self.scene.damaged();
        } else {
            self.scene.fail("ready", reason);
        }
    }

    /// The store that it uses, if it can be looked at now.
    pub(crate) fn store(&self) -> Option<Store> {
        match &self.place {
            Place::Apart(store) => Some(store.clone()),
            Place::Disk(disk) if !disk.is_well() => None,
            Place::Disk(_) => self.life().map(|life| life.faulty.store.clone()),
        }
    }

    /// Compares the store with what happened, if it can be looked at now.
    pub(crate) fn look(&self, chance: &mut Chance) {
        let Some(store) = self.store() else { return };
        let looked = self.scene.oracle().look(&store, chance);
        match looked {
            Ok(()) => self.scene.note(format_args!("a look finds nothing wrong")),
            Err(Blind::Failure(failure)) => self.scene.expect(Err(failure)),
            Err(Blind::Store(_)) if self.disk().is_some_and(Disk::has_flipped) => self.scene.damaged(),
            Err(Blind::Store(error)) => self.scene.fail("store", error.to_string()),
        }
    }
}
