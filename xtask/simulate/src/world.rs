//! One run: everything is set up, faults come and go, and in the end all must have come out right.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rollcall_host::log::MemoryStore;
use rollcall_wire::DeviceId;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::LocalSet;

use crate::chance::Chance;
use crate::coverage::{Coverage, Kind};
use crate::device::{Build, Device, Outbox, Stop};
use crate::disk::Disk;
use crate::faults::{self, Fault};
use crate::host::{Host, Place, Setup, Source};
use crate::net::{Doors, Line, Weather};
use crate::oracle::Oracle;
use crate::peer::Echoes;
use crate::peer::broker::Broker;
use crate::scene::{Failure, Scene, Wall};
use crate::settings::{Parts, Peer, Settings, Storage};
use crate::store::{Conditions, Store};
use crate::time::{self, now_ms, sleep, sleep_until};
use crate::trace::Trace;

/// After the last sample, devices may take so long until their outboxes are empty.
const DRAIN_MS: u64 = 180_000;

/// How often is looked whether all is drained.
const POLL_MS: u64 = 20;

/// After the last message, rows are stored within so long.
const ROWS_MS: u64 = 10_000;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong, if something is.
    pub failure: Option<Failure>,
    /// Did the store say that it is damaged, after a bit had flipped?
    pub is_damaged: bool,
    /// The hash of all that happened.
    pub hash: u64,
    /// How many lines that were.
    pub lines: u64,
    /// The lines, if they were kept.
    pub trace: Vec<String>,
    /// Which faults came to pass.
    pub coverage: Coverage,
    /// How many seconds devices lived through.
    pub device_seconds: u64,
    /// How much time of the processor that took.
    pub processor: Duration,
}

/// Runs a seed.
///
/// # Panics
/// When the simulation itself is wrong.
pub fn run(settings: &Settings) -> Outcome {
    let start = processor_time();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without a driver for sockets needs nothing of the system");
    let scene = LocalSet::new().block_on(&runtime, async {
        time::start();
        let world = Rc::new(World::new(settings));
        world.run().await;
        world.end();
        world.scene.clone()
    });
    let (trace, coverage) = (&mut scene.trace(), scene.coverage());
    Outcome {
        failure: scene.failure(),
        is_damaged: scene.is_damaged(),
        hash: trace.hash(),
        lines: trace.lines(),
        trace: trace.take(),
        coverage,
        device_seconds: settings.devices * settings.run_ms / 1000,
        processor: processor_time().saturating_sub(start),
    }
}

/// How much time of the processor this thread has taken.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The faults of a run, by their places in what the seed leads to, each with its time in milliseconds.
pub fn schedule(settings: &Settings) -> Vec<(usize, (u64, Fault))> {
    let all = faults::draw(settings, &Parts::draw(settings.seed)).into_iter().enumerate();
    let comes = |place: usize, at_ms: u64| {
        at_ms < settings.faulty_ms() && settings.faults.as_ref().is_none_or(|faults| faults.contains(&place))
    };
    all.filter(|(place, (at_ms, _))| comes(*place, *at_ms)).collect()
}

/// All that a run consists of.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) schedule: Vec<(usize, (u64, Fault))>,
    pub(crate) scene: Arc<Scene>,
    pub(crate) doors: Doors,
    pub(crate) devices: Vec<Rc<Device>>,
    /// The host, and what may become a second worker.
    pub(crate) hosts: Vec<Rc<Host>>,
    pub(crate) broker: Option<Rc<Broker>>,
    pub(crate) conditions: Conditions,
    pub(crate) echoes: Echoes,
    stop: Rc<Stop>,
}

impl World {
    fn new(settings: &Settings) -> Self {
        let parts = Parts::draw(settings.seed);
        let schedule = schedule(settings);
        let trace = Trace::new(settings.keep_trace);
        let scene = Arc::new(Scene::new(trace, Oracle::default(), Wall::new(parts.start)));
        scene.note(format_args!("{parts:?}"));
        let chance = |purpose| Chance::new(settings.seed, purpose, 0);
        let doors = Doors::default();
        let broker = (parts.peer == Peer::Broker).then(|| {
            let (prefetch, rounds_up) = (parts.prefetch, parts.rounds_up_waits);
            Broker::new(scene.clone(), doors.clone(), prefetch, rounds_up, chance("broker"))
        });
        let (conditions, echoes) =
            (Conditions::new(parts.store_delay_ms, chance("store")), Echoes::new(chance("echoes")));
        let setup = Setup {
            scene: scene.clone(),
            interval: parts.flush_interval.parse().expect("it is one of a few"),
            source: match &broker {
                None => Source::Gateway(doors.clone()),
                Some(broker) => Source::Broker(broker.clone(), parts.delay_ms),
            },
            place: match parts.storage {
                Storage::Memory => Place::Apart(Store::Memory(Arc::new(MemoryStore::default()))),
                Storage::Redb => Place::Disk(Disk::new(scene.clone(), chance("disk"))),
            },
            conditions: conditions.clone(),
            echoes: echoes.clone(),
        };
        // A process locks the embedded store, so there is no second one.
        let hosts = if parts.storage == Storage::Memory { 2 } else { 1 };
        let hosts =
            (0..hosts).map(|name| Host::new(name, setup.clone(), Chance::new(settings.seed, "host", name)));
        let (hosts, stop) = (hosts.collect(), Rc::<Stop>::default());
        let devices = (0..settings.devices).map(|number| {
            let chance = |purpose| Chance::new(settings.seed, purpose, number);
            let line = Line::new(doors.clone(), Weather::good(&parts), chance("line"));
            let build = Build::draw(&mut chance("build"), &parts);
            let id = DeviceId::new(&format!("sim-{number}")).expect("it is short");
            Device::new(id, build, line, scene.clone(), chance("device"), stop.clone())
        });
        let devices = devices.collect();
        let settings = settings.clone();
        Self { settings, schedule, scene, doors, devices, hosts, broker, conditions, echoes, stop }
    }

    /// A device, if it takes part.
    pub(crate) fn device(&self, number: u64) -> Option<&Rc<Device>> {
        self.devices.get(number as usize).filter(|_| self.settings.has_device(number))
    }

    fn taking_part(&self) -> impl Iterator<Item = &Rc<Device>> {
        (0..)
            .zip(&self.devices)
            .filter(|(number, _)| self.settings.has_device(*number))
            .map(|(_, device)| device)
    }

    async fn run(self: &Rc<Self>) {
        self.broker.iter().for_each(Broker::start);
        self.taking_part().for_each(Device::start);
        let host = self.hosts[0].clone();
        tokio::select! {
            biased;
            () = self.scene.is_over() => {}
            () = self.phases() => {}
            () = host.keep_running() => {}
        }
    }

    async fn phases(self: &Rc<Self>) {
        let chance = &mut Chance::new(self.settings.seed, "looks", 0);
        let faulty_ms = self.settings.faulty_ms();
        tokio::join!(self.strike_all(), async {
            while now_ms() < faulty_ms {
                let next_ms = now_ms() + chance.within(1, self.settings.run_ms / 2);
                sleep_until(next_ms.min(faulty_ms)).await;
                self.hosts[0].look(chance);
            }
        });
        self.heal();
        sleep_until(self.settings.end_ms()).await;
        if !self.drain().await {
            return;
        }
        self.hosts[0].look(chance);
        let sums = self.scene.oracle().check_sums();
        self.scene.expect(sums);
        // What a second worker stored last, the first hears of when it appends there, or begins anew.
        if self.scene.coverage().count(Kind::SecondWorker) == 0 {
            self.look_settled();
        }
        if let Err(reason) = self.hosts[0].stop(0).await {
            return self.scene.fail("stop", reason);
        }
        // What is on the disk alone leads to the same.
        sleep(ROWS_MS).await;
        self.rest().await;
        if let Some(reason) = self.hosts[0].reason() {
            return self.hosts[0].is_not_ready(reason);
        }
        self.hosts[0].look(chance);
        self.look_settled();
    }

    /// Are the windows and the rows where the log ends?
    fn look_settled(&self) {
        let settled = self.hosts[0].store().map(|store| self.scene.oracle().look_settled(&store));
        self.scene.expect(settled.unwrap_or(Ok(())));
    }

    /// Waits until everything that was sampled is stored; false when that does not come to pass.
    async fn drain(&self) -> bool {
        let drain_until_ms = now_ms() + DRAIN_MS;
        self.stop.stop(drain_until_ms);
        let is_done = || {
            self.taking_part().all(|device| device.has_ended())
                && self.broker.as_ref().is_none_or(|broker| broker.is_empty())
                && self.hosts[0].reason().is_none()
        };
        while !is_done() && now_ms() < drain_until_ms + 5_000 {
            sleep(POLL_MS).await;
        }
        if let Some(reason) = self.hosts[0].reason() {
            self.hosts[0].is_not_ready(reason);
        } else if let Some(device) = self.taking_part().find(|device| !device.is_drained()) {
            self.scene.fail("drain", format!("the outbox of {} is not empty", device.id));
        } else if !is_done() {
            self.scene.fail("drain", "the broker still holds messages");
        }
        self.rest().await;
        self.scene.failure().is_none() && !self.scene.is_damaged()
    }

    /// Waits until rows are stored after the last message. Messages that come again late may be on their way.
    async fn rest(&self) {
        while now_ms() < self.scene.oracle().last_at_ms() + ROWS_MS {
            sleep(POLL_MS).await;
        }
    }

    /// Everything is switched off.
    fn end(&self) {
        self.taking_part().for_each(|device| device.switch_off());
        for host in &self.hosts {
            host.kill(crate::host::End::Killed, 0);
        }
        if let Some(broker) = &self.broker {
            broker.kill();
        }
    }
}

impl Weather {
    /// How lines are when nothing is wrong.
    fn good(parts: &Parts) -> Self {
        let (refused_until_ms, silent_until_ms, slow) = Default::default();
        Self { delay_ms: parts.delay_ms, is_choppy: parts.is_choppy, refused_until_ms, silent_until_ms, slow }
    }
}

impl Build {
    fn draw(chance: &mut Chance, parts: &Parts) -> Self {
        Self {
            fast_ppm: chance.within(0, 200) as i64 - 100,
            outbox: chance.pick(&[Outbox::Large, Outbox::Large, Outbox::Small, Outbox::Flash]),
            starts_ms: if parts.in_step { 1 } else { chance.below(1_000) },
        }
    }
}
