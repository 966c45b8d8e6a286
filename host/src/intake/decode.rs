//! A message as it arrived → a record, or a named rejection. It knows neither of sources nor of stores.

use rollcall_wire::codec::{self, Rejection};
use rollcall_wire::{Announcement, DeviceId, Kind, Topic, presence};

use super::timing::ClockReading;
use crate::model::{Incoming, Record, RecordKind, Retain, TimeError, UnixMs};

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A sample to be counted, dated as if nothing but a broker had held it up; and what its message says of its
    /// device's clock, if it does.
    Sample(Record, Option<ClockReading>),
    /// A device came or left, if that is understood; nothing to count.
    Presence(DeviceId, Option<Announcement>),
}

/// Reads a message.
///
/// # Errors
/// The [`Rejection`] by name; any bytes are read or rejected, never a panic.
pub fn decode(message: &Incoming<'_>) -> Result<Decoded, Rejection> {
    let topic = Topic::parse(message.topic)?;
    if topic.kind == Kind::Presence {
        return Ok(Decoded::Presence(topic.device, presence::decode(message.payload)));
    }
    if message.retain == Retain::Yes {
        return Err(Rejection::Retained);
    }
    let reading = codec::decode(message.payload)?;
    // A bare message may come from any client with an expiry interval of its own, which says nothing of a waiting time.
    let waited_s = if reading.id.is_some() { codec::waited_s(message.expiry_left_s) } else { Some(0) };
    let before_ms = u64::from(reading.age_ms) + u64::from(waited_s.unwrap_or(0)) * 1000;
    // Each of the two is within the horizon; the sample has to be as well.
    if before_ms > u64::from(codec::AGE_MAX_MS) {
        return Err(Rejection::AgeBeyondHorizon);
    }
    let record = Record {
        device: topic.device,
        id: reading.id,
        status: reading.status,
        kind: RecordKind::Sample,
        sampled_at: UnixMs(message.received_at.0.saturating_sub(before_ms)),
        time_error: match waited_s {
            Some(0) => TimeError::Exact,
            Some(_) => TimeError::OneSecond,
            None => TimeError::Unknown,
        },
        received_at: message.received_at,
    };
    // Without a boot nobody knows whose clock it is.
    let clock = reading.up_ms.filter(|_| reading.id.is_some()).map(|up_ms| ClockReading {
        up_ms,
        run: reading.run,
        taken: reading.taken,
        age_ms: reading.age_ms,
        waited_s,
    });
    Ok(Decoded::Sample(record, clock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollcall_wire::{BootId, ConnectionId, DeviceId, SampleId, Sequence, Status};

    const NOW: UnixMs = UnixMs(1_700_000_000_500);
    fn topic() -> String {
        Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name().to_string()
    }

    fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Incoming<'a> {
        Incoming { topic, payload, retain: Retain::No, expiry_left_s: None, received_at: NOW }
    }

    const FULL: &[u8] = br#"{"status":3,"seq":17,"boot":"9f3c5a0be1d24c77","age_ms":1500}"#;

    #[test]
    fn the_sample_lies_its_age_before_it_was_received() {
        let sample = Record {
            device: DeviceId::new("sim-0").unwrap(),
            id: Some(SampleId { boot: BootId(0x9f3c_5a0b_e1d2_4c77), seq: Sequence::new(17).unwrap() }),
            status: Status::new(3).unwrap(),
            kind: RecordKind::Sample,
            sampled_at: UnixMs(NOW.0 - 1500),
            time_error: TimeError::Exact,
            received_at: NOW,
        };
        assert_eq!(decode(&message(&topic(), FULL)), Ok(Decoded::Sample(sample, None)));
    }

    #[test]
    fn the_time_in_a_broker_is_told_by_what_is_left_of_the_expiry_interval() {
        let topic = topic();
        let waited =
            Incoming { expiry_left_s: Some(codec::MESSAGE_EXPIRY_S - 3600), ..message(&topic, FULL) };
        let Ok(Decoded::Sample(record, _)) = decode(&waited) else { panic!("rejected") };
        assert_eq!(record.sampled_at, UnixMs(NOW.0 - 1500 - 3_600_000));
        assert_eq!(record.time_error, TimeError::OneSecond);
    }

    #[test]
    fn a_sample_is_no_older_than_the_horizon_whatever_its_age_is_made_of() {
        let topic = topic();
        let horizon_s = codec::AGE_MAX_MS / 1000;
        let of = |age_s: u32, waited_s: u32| {
            let payload =
                format!(r#"{{"status":3,"seq":1,"boot":"9f3c5a0be1d24c77","age_ms":{}}}"#, age_s * 1000);
            let left = codec::MESSAGE_EXPIRY_S - waited_s;
            decode(&Incoming { expiry_left_s: Some(left), ..message(&topic, payload.as_bytes()) }).err()
        };
        assert_eq!(of(horizon_s / 2, horizon_s / 2), None);
        assert_eq!(of(horizon_s, 0), None);
        assert_eq!(of(horizon_s / 2, horizon_s / 2 + 1), Some(Rejection::AgeBeyondHorizon));
        assert_eq!(of(horizon_s, 60), Some(Rejection::AgeBeyondHorizon));
    }

    #[test]
    fn an_expiry_interval_of_another_client_says_nothing_of_a_wait() {
        let topic = topic();
        for left in [0, 60, 3_600, codec::EXPIRY_LEFT_MIN_S - 1] {
            let foreign = Incoming { expiry_left_s: Some(left), ..message(&topic, FULL) };
            let Ok(Decoded::Sample(record, _)) = decode(&foreign) else { panic!("rejected") };
            assert_eq!((record.sampled_at, record.time_error), (UnixMs(NOW.0 - 1500), TimeError::Unknown));
        }
    }

    #[test]
    fn a_bare_message_is_of_the_moment_whatever_its_expiry_interval() {
        let topic = topic();
        let bare = Incoming { expiry_left_s: Some(60), ..message(&topic, br#"{"status":3}"#) };
        let Ok(Decoded::Sample(record, _)) = decode(&bare) else { panic!("rejected") };
        assert_eq!((record.sampled_at, record.id), (NOW, None));
    }

    #[test]
    fn a_retained_status_is_rejected_and_retained_presence_is_not() {
        let topic = topic();
        let retained = Incoming { retain: Retain::Yes, ..message(&topic, FULL) };
        assert_eq!(decode(&retained), Err(Rejection::Retained));
        let topic = topic.replace("/status", "/presence");
        let device = DeviceId::new("sim-0").unwrap();
        let id = ConnectionId { boot: BootId(7), run: None, number: 2 };
        let said = presence::encode(false, &id);
        let news = |is_online, connection| Some(Announcement { is_online, connection });
        for (payload, announcement) in [
            (&b"online"[..], news(true, None)),
            (b"offline", news(false, None)),
            (said.as_bytes(), news(false, Some(id))),
            (FULL, None),
        ] {
            let message = Incoming { topic: &topic, payload, ..retained };
            assert_eq!(decode(&message), Ok(Decoded::Presence(device, announcement)));
        }
    }

    #[test]
    fn topics_that_are_not_of_rollcall_are_rejected_by_name() {
        let good = topic();
        let long = "a".repeat(33);
        for (topic, rejection) in [
            ("".to_owned(), Rejection::BadTopic),
            ("status".to_owned(), Rejection::BadTopic),
            (good.replace("/status", "/statuses"), Rejection::BadTopic),
            (format!("{good}/more"), Rejection::BadTopic),
            (good.replace("sim-0", "sim.0"), Rejection::BadDevice),
            (good.replace("sim-0", "Sim-0"), Rejection::BadDevice),
            (good.replace("sim-0", &long), Rejection::BadDevice),
            (good.replace("sim-0", ""), Rejection::BadDevice),
            (good.replace("sim-0", "sim-1"), Rejection::WrongSlot),
            ("rollcall/g/sim-0/status".to_owned(), Rejection::WrongSlot),
        ] {
            assert_eq!(decode(&message(&topic, FULL)), Err(rejection), "{topic}");
        }
    }
}
