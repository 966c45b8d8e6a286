//! Clients that are no devices: they invent samples, send what is none, or know nothing of identities.

use std::rc::Rc;
use std::sync::Arc;

use embedded_io_async::Read;
use rollcall_harness::mqtt::{ConnectPacket, Version, publish_with};
use rollcall_wire::codec::{MESSAGE_EXPIRY_S, PAYLOAD_MAX, encode};
use rollcall_wire::{BootId, DeviceId, Kind, Reading, SampleId, Sequence, Status, Taken, Topic};

use crate::chance::Chance;
use crate::faults::HostileFault;
use crate::net::Line;
use crate::scene::Scene;
use crate::time::sleep;

/// How long it waits for answers, which it does not read, before it leaves.
const LEAVES_MS: u64 = 3_000;

/// A message of QoS 1, not retained and retained.
const QOS_1: u8 = 0x32;
const RETAINED: u8 = 0x33;

/// One such client, from connecting to leaving.
pub(crate) async fn visit(
    line: Rc<Line>,
    scene: Arc<Scene>,
    fault: HostileFault,
    device: DeviceId,
    mut chance: Chance,
) {
    let Ok(mut socket) = line.connect().await else { return };
    socket.send(&ConnectPacket::new(Version::V5, "visitor").encode());
    let count = match fault {
        HostileFault::Boots { count, .. }
        | HostileFault::Sequences { count, .. }
        | HostileFault::Garbage { count }
        | HostileFault::Bare { count } => count,
    };
    for number in 0..count {
        let (first, topic, payload) = message(&scene, fault, device, number, &mut chance);
        let id = Some(number as u16 + 1);
        socket.send(&publish_with(Version::V5, first, id, &topic, &payload, Some(MESSAGE_EXPIRY_S)));
        sleep(chance.below(4)).await;
    }
    // It reads what it is told, so that nobody has to wait for it.
    tokio::select! {
        biased;
        () = sleep(LEAVES_MS) => {}
        () = async { while socket.read(&mut [0; 256]).await.is_ok_and(|count| count > 0) {} } => {}
    }
}

fn message(
    scene: &Scene,
    fault: HostileFault,
    device: DeviceId,
    number: u64,
    chance: &mut Chance,
) -> (u8, String, Vec<u8>) {
    let status = Status::new(chance.below(Status::COUNT as u64) as u8).expect("it is below the count");
    let topic = |device| Topic { device, kind: Kind::Status }.name().to_string();
    let sample = |boot, seq| {
        let id = SampleId { boot, seq };
        scene.oracle().forged(device, id);
        let (up_ms, run, taken) = (None, None, Taken::ThisRun);
        let reading = Reading { status, id: Some(id), age_ms: 0, up_ms, run, taken };
        (QOS_1, topic(device), encode(&reading).as_bytes().to_vec())
    };
    match fault {
        HostileFault::Boots { .. } => sample(BootId(chance.bits()), Sequence::ZERO),
        HostileFault::Sequences { count, .. } => {
            let Some(boot) = scene.oracle().latest_boot(device) else {
                return garbage(&topic(device), chance);
            };
            let seq = if count == 1 { Sequence::MAX.get() } else { 1_000_000 + 2 * number };
            sample(boot, Sequence::new(seq).expect("it is at most the largest"))
        }
        HostileFault::Garbage { .. } => garbage(&topic(device), chance),
        HostileFault::Bare { .. } => {
            let device = DeviceId::new("bare").expect("it is short");
            (QOS_1, topic(device), format!(r#"{{"status":{}}}"#, status.get()).into_bytes())
        }
    }
}

fn garbage(topic: &str, chance: &mut Chance) -> (u8, String, Vec<u8>) {
    let payload: &[u8] = match chance.below(8) {
        0 => b"",
        1 => b"{",
        2 => &[b'x'; PAYLOAD_MAX + 1],
        3 => b"\xff\xfe",
        4 => br#"{"status":7}"#,
        5 => br#"{"status":3,"seq":1,"boot":"9f3c5a0be1d24c77","age_ms":2592000001}"#,
        6 => return (RETAINED, topic.to_owned(), br#"{"status":3}"#.to_vec()),
        _ => return (QOS_1, "rollcall/0/porch/status".to_owned(), br#"{"status":3}"#.to_vec()),
    };
    (QOS_1, topic.to_owned(), payload.to_vec())
}
