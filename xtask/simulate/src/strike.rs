//! Lets the faults of a schedule come to pass.

use std::rc::Rc;

use crate::chance::Chance;
use crate::coverage::Kind;
use crate::disk::{Disk, Trouble};
use crate::faults::{BrokerFault, ClockFault, DeviceFault, Fault, HostFault, HostileFault, LinkFault, What};
use crate::host::{End, Place};
use crate::hostile;
use crate::net::Line;
use crate::time::{now_ms, sleep, sleep_until};
use crate::world::World;

/// How long a host that was stopped stays so.
const STOPPED_MS: u64 = 10;

impl World {
    /// Lets each fault come at its time.
    pub(crate) async fn strike_all(self: &Rc<Self>) {
        for (place, (at_ms, fault)) in &self.schedule {
            sleep_until(*at_ms).await;
            self.scene.note(format_args!("fault {place}: {fault}"));
            self.strike(*place as u64, *fault);
        }
    }

    /// Does something a little later.
    fn later(self: &Rc<Self>, ms: u64, work: impl FnOnce(&Rc<Self>) + 'static) {
        let world = self.clone();
        tokio::task::spawn_local(async move {
            sleep(ms).await;
            work(&world);
        });
    }

    fn fired_if(&self, has: bool, kind: Kind) {
        if has {
            self.scene.fired(kind);
        }
    }

    fn strike(self: &Rc<Self>, place: u64, Fault(what): Fault) {
        match what {
            What::Link(device, fault) => self.strike_link(device, fault),
            What::Device(device, fault) => self.strike_device(device, fault),
            What::Duplicates { ms, is_late } => self.echoes.begin(now_ms() + ms, is_late),
            What::Host(fault) => self.strike_host(fault),
            What::Store { call, mishap, times } => {
                (0..times).for_each(|_| self.conditions.expect(call, mishap));
            }
            What::SlowStore { ms, more_ms } => {
                self.scene.fired(Kind::SlowStore);
                self.conditions.slow(now_ms() + ms, more_ms);
            }
            What::Disk { operations, trouble, left, ms } => {
                let Some(disk) = self.disk().filter(|disk| disk.is_well()) else { return };
                disk.expect_trouble(operations, trouble, left);
                if trouble != Trouble::Power {
                    self.later(ms, |world| world.disk().into_iter().for_each(Disk::heal));
                }
            }
            What::BitFlip => self.strike_bit(),
            What::Clock(fault) => self.strike_clock(fault),
            What::Broker(fault) => self.strike_broker(fault),
            What::Hostile(fault) => self.strike_hostile(place, fault),
        }
    }

    /// A bit flips while the store is closed. After a crash it could not be told from a write that was cut off.
    fn strike_bit(self: &Rc<Self>) {
        let world = self.clone();
        tokio::task::spawn_local(async move {
            let Some(disk) = world.disk().filter(|disk| disk.is_well() && world.hosts[0].is_alive()) else {
                return;
            };
            if world.hosts[0].stop(STOPPED_MS).await.is_ok() && disk.flip() {
                world.scene.fired(Kind::BitFlip);
            }
        });
    }

    fn strike_link(self: &Rc<Self>, device: u64, fault: LinkFault) {
        let Some(device) = self.device(device) else { return };
        let (line, now) = (&device.line, now_ms());
        match fault {
            LinkFault::Cut => self.fired_if(line.cut(), Kind::LinkCut),
            LinkFault::CutAll => {
                let any = self.devices.iter().filter(|device| device.line.cut()).count() > 0;
                self.fired_if(any, Kind::LinkCut);
            }
            LinkFault::HalfOpen => self.fired_if(line.half_open(), Kind::HalfOpen),
            LinkFault::Refuse { ms } => {
                line.change(|weather| weather.refused_until_ms = now + ms);
                self.fired_if(line.cut(), Kind::Refused);
            }
            LinkFault::Silence { ms } => {
                line.change(|weather| weather.silent_until_ms = now + ms);
                self.fired_if(line.half_open(), Kind::Silent);
            }
            LinkFault::Slow { ms, more_ms } => {
                line.change(|weather| weather.slow = (now + ms, more_ms));
                self.scene.fired(Kind::SlowLink);
            }
        }
    }

    fn strike_device(self: &Rc<Self>, number: u64, fault: DeviceFault) {
        let Some(device) = self.device(number) else { return };
        match fault {
            DeviceFault::Reset { off_ms } => self.fired_if(device.reset(off_ms), Kind::Reset),
            DeviceFault::BootLoop { times, every_ms } => {
                self.scene.fired(Kind::BootLoop);
                let (device, end_ms) = (device.clone(), self.settings.faulty_ms());
                tokio::task::spawn_local(async move {
                    for _ in 0..times {
                        if now_ms() >= end_ms {
                            break;
                        }
                        device.reset(50);
                        sleep(every_ms).await;
                    }
                });
            }
            DeviceFault::Freeze { ms } => {
                self.fired_if(device.freeze(), Kind::DeviceFrozen);
                self.later(ms, move |world| {
                    world.device(number).into_iter().for_each(|device| device.thaw())
                });
            }
            DeviceFault::PowerCut { words, off_ms } => {
                if !device.cut_power_after(words) {
                    self.fired_if(device.reset(off_ms), Kind::Reset);
                }
            }
        }
    }

    fn strike_host(self: &Rc<Self>, fault: HostFault) {
        let host = &self.hosts[0];
        match fault {
            HostFault::Kill { restart_ms } => {
                self.fired_if(host.kill(End::Killed, restart_ms), Kind::HostKilled);
            }
            HostFault::PowerLoss { restart_ms } => {
                let fired = host.kill(End::PowerLost, restart_ms);
                self.fired_if(fired && self.disk().is_some(), Kind::PowerLoss);
            }
            HostFault::Freeze { ms } => {
                self.fired_if(host.freeze(), Kind::HostFrozen);
                self.later(ms, |world| world.hosts[0].thaw());
            }
            HostFault::Restart { restart_ms } => {
                let world = self.clone();
                tokio::task::spawn_local(async move {
                    world.scene.fired(Kind::HostRestarted);
                    // A drain that is not done in time is given up, as an operator does.
                    let drained = world.hosts[0].stop(restart_ms).await;
                    world.scene.note(format_args!("stopped: {drained:?}"));
                });
            }
            HostFault::SecondWorker { ms } => {
                let Some(second) = self.hosts.get(1).filter(|second| !second.is_alive()) else { return };
                // What a broker holds for the second alone is gone with it.
                if self.broker.as_ref().is_some_and(|broker| !broker.knows(host.name)) {
                    return;
                }
                self.fired_if(second.start().is_some(), Kind::SecondWorker);
                self.later(ms, |world| world.dismiss_second());
            }
        }
    }

    fn strike_clock(self: &Rc<Self>, fault: ClockFault) {
        match fault {
            ClockFault::Step { ms } => {
                self.scene.wall().step(ms);
                self.scene.fired(if ms < 0 { Kind::ClockBack } else { Kind::ClockForward });
            }
            ClockFault::Freeze { ms } => {
                self.scene.wall().freeze(true);
                self.scene.fired(Kind::ClockFrozen);
                self.later(ms, |world| world.scene.wall().freeze(false));
            }
            ClockFault::Drift { ppm } => {
                self.scene.wall().drift(ppm);
                self.scene.fired(Kind::ClockDrift);
            }
        }
    }

    fn strike_broker(self: &Rc<Self>, fault: BrokerFault) {
        let Some(broker) = &self.broker else { return };
        match fault {
            BrokerFault::Kill { restart_ms } => {
                self.fired_if(broker.kill(), Kind::BrokerKilled);
                self.later(restart_ms, |world| world.broker.iter().for_each(|broker| broker.start()));
            }
            BrokerFault::Freeze { ms } => {
                broker.freeze();
                self.scene.fired(Kind::BrokerFrozen);
                self.later(ms, |world| world.broker.iter().for_each(|broker| broker.thaw()));
            }
            BrokerFault::Refuse { ms } => broker.refuse(now_ms() + ms),
            BrokerFault::Redeliver { late_ms } => {
                self.fired_if(broker.redeliver(late_ms), Kind::Overtaken);
            }
        }
    }

    fn strike_hostile(self: &Rc<Self>, place: u64, fault: HostileFault) {
        let (number, kind) = match fault {
            HostileFault::Boots { device, .. } => (device, Kind::ForgedBoots),
            HostileFault::Sequences { device, .. } => (device, Kind::ForgedSequences),
            HostileFault::Garbage { .. } => (0, Kind::Garbage),
            HostileFault::Bare { .. } => (0, Kind::Bare),
        };
        let Some(device) = self.device(number) else { return };
        self.scene.fired(kind);
        let chance = |purpose| Chance::new(self.settings.seed, purpose, place);
        let line = Line::new(self.doors.clone(), device.line.weather(), chance("visitor's line"));
        let visit = hostile::visit(line, self.scene.clone(), fault, device.id, chance("visitor"));
        tokio::task::spawn_local(visit);
    }

    /// The disk of the embedded store, if that is used.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        match &self.hosts[0].place {
            Place::Apart(_) => None,
            Place::Disk(disk) => Some(disk),
        }
    }

    /// The second worker is no more, and nothing is held for it.
    pub(crate) fn dismiss_second(&self) {
        if let Some(second) = self.hosts.get(1) {
            second.kill(End::Killed, 0);
            self.broker.iter().for_each(|broker| broker.leave(second.name, true));
        }
    }

    /// From now on, nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.scene.note(format_args!("no more faults"));
        for device in &self.devices {
            device.line.change(|weather| {
                (weather.refused_until_ms, weather.silent_until_ms, weather.slow) = (0, 0, (0, 0));
            });
            device.heal();
        }
        self.echoes.begin(0, false);
        self.conditions.heal();
        self.disk().into_iter().for_each(Disk::heal);
        self.scene.wall().freeze(false);
        self.scene.wall().drift(0);
        self.hosts[0].thaw();
        self.dismiss_second();
        if let Some(broker) = &self.broker {
            broker.refuse(0);
            broker.thaw();
            broker.start();
        }
    }
}
