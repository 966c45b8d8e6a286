//! A client over a real socket: it sends until all is answered, and is cut off on the way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{Client, PUBACK, Version, disconnect, publish_with, receive_maximum};
use rollcall_host::model::{Sender, Verdict};
use rollcall_wire::codec::Rejection;
use rollcall_wire::{BootId, DeviceId, Kind, SampleId, Sequence, Topic};

use super::gateway::LOOK_EVERY;
use super::oracle::{Name, Oracle};

/// Nobody is away for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients share with the hosts that come and go.
pub(crate) struct Host {
    /// Where it listens; `None` while there is none.
    pub(crate) address: Mutex<Option<SocketAddr>>,
    /// How many messages were answered.
    pub(crate) answered: AtomicU64,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) version: Version,
    pub(crate) qos: u8,
    pub(crate) names: Vec<Name>,
    /// How many messages it has in flight; the gateway's own bound if that is less.
    window: u16,
    /// So often it goes away without a word, with messages in flight.
    cuts: u8,
}

impl Script {
    pub(crate) fn new(random: &mut fastrand::Rng, devices: &[DeviceId]) -> Self {
        let version = if random.bool() { Version::V5 } else { Version::V311 };
        // 3.1.1 knows no bound, so one that is beyond the gateway's own is no fault of the client's.
        let windows: &[u16] = if version == Version::V5 { &[1, 8, 50, u16::MAX] } else { &[1, 8, 50, 300] };
        Self {
            version,
            qos: u8::from(random.u8(..4) > 0),
            names: names(random, devices),
            window: *random.choice(windows).unwrap(),
            cuts: random.choice([0, 0, 1, 3]).unwrap(),
        }
    }

    /// Sends all, and tells what was promised.
    pub(crate) fn run(mut self, host: &Host, id: &str, mut random: fastrand::Rng) -> Oracle {
        let mut oracle = Oracle::default();
        self.names.iter().for_each(|name| oracle.sends(*name));
        let mut outbox: VecDeque<Name> = self.names.iter().copied().collect();
        let deadline = Instant::now() + PATIENCE;
        while !outbox.is_empty() {
            assert!(Instant::now() < deadline, "{} messages were never answered", outbox.len());
            let Some(address) = *host.address.lock().unwrap() else {
                std::thread::sleep(LOOK_EVERY);
                continue;
            };
            let Some((client, connack)) = Client::try_connect_as(address, self.version, id) else { continue };
            if self.qos == 0 {
                self.burst(client, &outbox, &mut random);
                return oracle;
            }
            let most =
                if self.version == Version::V5 { receive_maximum(&connack).unwrap() } else { u16::MAX };
            self.connection(client, most.min(self.window), &mut outbox, host, &mut oracle, &mut random);
        }
        oracle
    }

    /// Connect, burst, DISCONNECT at once: as `mosquitto_pub` does. What arrived whole is taken.
    fn burst(&self, mut client: Client, outbox: &VecDeque<Name>, random: &mut fastrand::Rng) {
        let packets: Vec<_> = outbox.iter().map(|name| self.packet(*name, None)).collect();
        send_in_pieces(&mut client, &[packets.concat(), disconnect(0)].concat(), random);
        client.leave();
    }

    /// One connection, until all is answered or it ends.
    fn connection(
        &mut self,
        mut client: Client,
        window: u16,
        outbox: &mut VecDeque<Name>,
        host: &Host,
        oracle: &mut Oracle,
        random: &mut fastrand::Rng,
    ) {
        let (mut in_flight, mut packet_id) = (VecDeque::new(), 0);
        loop {
            let mut bytes = Vec::new();
            while in_flight.len() < window.into()
                && let Some(name) = outbox.get(in_flight.len())
            {
                packet_id = packet_id % 1_000 + 1;
                bytes.extend(self.packet(*name, Some(packet_id)));
                in_flight.push_back(packet_id);
            }
            if self.cuts > 0 && random.u8(..20) == 0 {
                self.cuts -= 1;
                client.send(&bytes[..random.usize(..=bytes.len())]);
                return;
            }
            send_in_pieces(&mut client, &bytes, random);
            let Some(expected) = in_flight.pop_front() else { return };
            // MQTT-4.6.0-2: in order, so each is the answer to the oldest.
            let Some(packet) = client.receive() else { return };
            if packet.kind() != PUBACK {
                return;
            }
            assert_eq!(packet.body[..2], expected.to_be_bytes()[..], "an answer out of order");
            let name = outbox[0];
            match (self.version, packet.reason()) {
                (Version::V5, 0) => oracle.hears(name, Sender::HearsRefusal, Verdict::Accepted),
                (Version::V311, 0) => drop(oracle.settled.insert(name)),
                (Version::V5, 0x99) => {
                    let text = String::from_utf8_lossy(&packet.body).into_owned();
                    assert!(text.contains(Rejection::CannotTell.name()), "{text}");
                    oracle.hears(name, Sender::HearsRefusal, Verdict::Rejected(Rejection::CannotTell));
                }
                // It is shutting down, and the message is to be sent again.
                (Version::V5, 0x83) => return,
                (version, reason) => panic!("{version:?} was answered {reason:#04x}"),
            }
            outbox.pop_front();
            host.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn packet(&self, (device, id): Name, packet_id: Option<u16>) -> Vec<u8> {
        let topic = Topic { device, kind: Kind::Status }.name();
        let status = id.seq.get() % 7;
        let payload = format!(r#"{{"status":{status},"seq":{},"boot":"{}"}}"#, id.seq.get(), id.boot);
        publish_with(self.version, 0x30 | self.qos << 1, packet_id, &topic, payload.as_bytes(), None)
    }
}

/// Mostly at once, at times cut at a byte that is no packet's boundary.
fn send_in_pieces(client: &mut Client, bytes: &[u8], random: &mut fastrand::Rng) {
    let (first, rest) = bytes.split_at(random.usize(..=bytes.len()));
    client.send(first);
    if random.u8(..8) == 0 {
        std::thread::yield_now();
    }
    client.send(rest);
}

/// What a client sends, in its order: samples as they were taken, newest first, shuffled and repeated, or forged.
fn names(random: &mut fastrand::Rng, devices: &[DeviceId]) -> Vec<Name> {
    let device = *random.choice(devices).unwrap();
    let name = |boot, seq| (device, SampleId { boot: BootId(boot), seq: Sequence::new(seq).unwrap() });
    let (boot, first) = (random.u64(..3), random.u64(..30));
    let mut names: Vec<_> = match random.u8(..30) {
        0..20 => (first..first + random.u64(1..80)).map(|seq| name(boot, seq)).collect(),
        20..24 => (0..random.u64(1..20)).map(|back| name(boot, Sequence::MAX.get() - back)).collect(),
        24..29 => (first..first + random.u64(1..25)).map(|boot| name(boot, 0)).collect(),
        _ => (0..1_060).map(|n| name(boot, 2 * n)).collect(),
    };
    match random.u8(..4) {
        0 => names.reverse(),
        1 => random.shuffle(&mut names),
        _ => {}
    }
    for _ in 0..random.usize(..names.len().min(20)) {
        let again = names[random.usize(..names.len())];
        names.insert(random.usize(..=names.len()), again);
    }
    names
}
