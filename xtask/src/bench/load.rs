//! A fleet's worth of messages from one thread: plain sockets, epoll, and nothing that waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_harness::mqtt::{ConnectPacket, PUBACK, PublishPacket, Version, property, split_packet};
use rollcall_wire::{BootId, DeviceId, Kind, Reading, SampleId, Sequence, Status, Taken, Topic, codec};
use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::wire::{Door, Wire};

/// Nothing acknowledged for so long means that the host has stopped.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// The first byte of a PUBLISH with QoS 1.
const QOS_1: u8 = 0x32;

/// How long to sleep when nothing happens and nothing is due.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// What a load looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) connections: usize,
    /// Devices behind each connection, which take turns.
    pub(super) devices_each: usize,
    /// Messages that a connection may have unacknowledged.
    pub(super) window: usize,
}

/// The fleet of the figures: 1,000 devices over 50 connections with 20 messages in flight each.
pub(super) const FLEET: Shape = Shape { connections: 50, devices_each: 20, window: 20 };

/// When a run ends and how fast it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// So many messages, as fast as the host acknowledges.
    Count(u64),
    /// As fast as the host acknowledges, for so long.
    FullSpeed(Duration),
    /// So many messages a second, for so long.
    PerSecond(u64, Duration),
}

impl Pace {
    /// How many messages may have been sent `elapsed` after the start; `None` when it is time to stop.
    fn allowed(self, elapsed: Duration) -> Option<u64> {
        match self {
            Self::Count(count) => Some(count),
            Self::FullSpeed(limit) => (elapsed < limit).then_some(u64::MAX),
            Self::PerSecond(rate, limit) => {
                (elapsed < limit).then_some((elapsed.as_secs_f64() * rate as f64) as u64)
            }
        }
    }
}

/// What the devices' clocks said when the load began: longer than any sample is old.
const UP_MS: u64 = 2 * codec::AGE_MAX_MS as u64;

struct Device {
    topic: String,
    boot: BootId,
    seq: Sequence,
}

struct Connection {
    wire: Wire,
    devices: Vec<Device>,
    turn: usize,
    in_flight: usize,
    packet_id: u16,
    /// What the clocks of its devices read from.
    started: Instant,
    received: Vec<u8>,
}

/// Connected clients.
pub(super) struct Load {
    shape: Shape,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    random: fastrand::Rng,
    statuses: Vec<Status>,
    packets: Vec<u8>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub(super) fn connect(broker: &str, shape: Shape, seed: u64) -> Result<Self> {
        Self::connect_at(&Door::Plain(broker.to_owned()), shape, seed)
    }

    pub(super) fn connect_at(door: &Door, shape: Shape, seed: u64) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(shape.connections);
        for number in 0..shape.connections {
            let connection = Connection::open(door, number, shape, &mut random)
                .with_context(|| format!("connection {number} of {}", shape.connections))?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, connection.wire.socket(), data, epoll::EventFlags::IN)?;
            connections.push(connection);
        }
        let statuses = (0..Status::COUNT as u8).filter_map(Status::new).collect();
        Ok(Self { shape, epoll, connections, random, statuses, packets: Vec::new(), stop: Arc::default() })
    }

    /// Set to true, it ends a run before its time.
    pub(super) fn stopper(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Publishes at `pace` until it ends and everything is acknowledged; says how many that were. `age_ms`
    /// gives the age of the nth sample.
    pub(super) fn run(&mut self, pace: Pace, age_ms: impl Fn(u64) -> u32) -> Result<u64> {
        let start = Instant::now();
        let (mut sent, mut acknowledged, mut last_ack) = (0, 0, start);
        let mut with_room: VecDeque<usize> = (0..self.connections.len()).collect();
        loop {
            let allowed = pace.allowed(start.elapsed()).filter(|_| !self.stop.load(Ordering::Relaxed));
            let mut budget = allowed.unwrap_or(0).saturating_sub(sent);
            while budget > 0
                && let Some(number) = with_room.pop_front()
            {
                // At a given pace the connections take turns; at full speed each fills its window.
                let most = if matches!(pace, Pace::PerSecond(..)) { 1 } else { budget };
                let count = self.send(number, most, sent, &age_ms)?;
                (sent, budget) = (sent + count, budget - count);
                if self.connections[number].in_flight < self.shape.window {
                    with_room.push_back(number);
                }
            }
            let is_over = allowed.is_none_or(|allowed| matches!(pace, Pace::Count(_)) && sent >= allowed);
            if is_over && acknowledged == sent {
                return Ok(acknowledged);
            }
            let taken = self.receive(&mut with_room)?;
            if taken > 0 || acknowledged == sent {
                last_ack = Instant::now();
            }
            acknowledged += taken;
            ensure!(last_ack.elapsed() < SILENCE_LIMIT, "nothing was acknowledged for {SILENCE_LIMIT:?}");
        }
    }

    fn send(&mut self, number: usize, most: u64, first: u64, age_ms: impl Fn(u64) -> u32) -> Result<u64> {
        let connection = &mut self.connections[number];
        let room = (self.shape.window - connection.in_flight) as u64;
        let count = room.min(most);
        self.packets.clear();
        for nth in first..first + count {
            let status = self.statuses[self.random.usize(..self.statuses.len())];
            connection.encode(&mut self.packets, age_ms(nth), status);
        }
        connection.wire.write_all(&self.packets)?;
        connection.in_flight += count as usize;
        Ok(count)
    }

    /// Reads what has arrived, or naps; connections that had a full window have room again.
    fn receive(&mut self, with_room: &mut VecDeque<usize>) -> Result<u64> {
        let mut events = Vec::with_capacity(256);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&NAP))?;
        let mut taken = 0;
        for event in &events {
            let number = event.data.u64() as usize;
            let connection = &mut self.connections[number];
            let count = connection.receive()?;
            if count > 0 && connection.in_flight == self.shape.window {
                with_room.push_back(number);
            }
            connection.in_flight -= count as usize;
            taken += count;
        }
        Ok(taken)
    }
}

impl Connection {
    fn open(door: &Door, number: usize, shape: Shape, random: &mut fastrand::Rng) -> Result<Self> {
        let client_id = format!("bench-{number}");
        let connect = ConnectPacket { keep_alive_s: 0, ..ConnectPacket::new(Version::V5, &client_id) };
        let wire = Wire::open(door, &connect)?;
        let device = |index: usize| {
            let name = format!("load-{}", number * shape.devices_each + index);
            let device = DeviceId::new(&name).context("not a device id")?;
            let topic = Topic { device, kind: Kind::Status }.to_string();
            Ok(Device { topic, boot: BootId(random.u64(..)), seq: Sequence::ZERO })
        };
        let devices = (0..shape.devices_each).map(device).collect::<Result<_>>()?;
        Ok(Self {
            wire,
            devices,
            turn: 0,
            in_flight: 0,
            packet_id: 0,
            started: Instant::now(),
            received: Vec::new(),
        })
    }

    fn encode(&mut self, packets: &mut Vec<u8>, age_ms: u32, status: Status) {
        let turn = self.turn;
        self.turn = (turn + 1) % self.devices.len();
        let device = &mut self.devices[turn];
        let id = Some(SampleId { boot: device.boot, seq: device.seq });
        device.seq = device.seq.next();
        // 0 is no packet id. With a window of 20, an id is free again long before it comes round.
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let up_ms = Some(UP_MS + self.started.elapsed().as_millis() as u64);
        let (run, taken) = (None, Taken::ThisRun);
        let payload = codec::encode(&Reading { status, id, age_ms, up_ms, run, taken });
        let publish = PublishPacket {
            first: QOS_1,
            id: Some(self.packet_id),
            topic: &device.topic,
            // As Rollcall's devices send it.
            properties: &property::message_expiry_interval(codec::MESSAGE_EXPIRY_S),
            payload: payload.as_bytes(),
        };
        publish.encode_to(Version::V5, packets);
    }

    fn receive(&mut self) -> Result<u64> {
        self.wire.read(&mut self.received)?;
        take_pubacks(&mut self.received)
    }
}

/// Takes the whole PUBACKs from the front of `received` and says how many there were.
fn take_pubacks(received: &mut Vec<u8>) -> Result<u64> {
    let (mut at, mut count) = (0, 0);
    while let Some((packet, length)) = split_packet(&received[at..])? {
        ensure!(packet.kind() == PUBACK, "the host sent {packet:02x?} where a PUBACK was due");
        let reason = packet.reason();
        ensure!(reason == 0, "the host refused a message with reason {reason:#04x}");
        (at, count) = (at + length, count + 1);
    }
    received.drain(..at);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::take_pubacks;

    #[test]
    fn pubacks_are_counted_whole_and_a_refusal_is_an_error() {
        let mut received = b"\x40\x02\x00\x01\x40\x03\x00\x02\x00\x40\x02\x00".to_vec();
        assert_eq!(take_pubacks(&mut received).unwrap(), 2);
        assert_eq!(received, b"\x40\x02\x00");
        assert!(take_pubacks(&mut b"\x40\x03\x00\x01\x97".to_vec()).is_err());
        assert!(take_pubacks(&mut b"\xe0\x00".to_vec()).is_err());
    }
}
