//! Which topics an ingest worker subscribes to.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rollcall_wire::{DeviceId, Kind, Slot, Topic};

/// The slots that a worker takes, written as `0-7`, `3` or `0-3,a,f`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(BTreeSet<u8>);

impl Slots {
    /// Every slot.
    pub fn all() -> Self {
        Self(Slot::all().map(|slot| slot.index() as u8).collect())
    }

    fn contains(&self, slot: Slot) -> bool {
        self.0.contains(&(slot.index() as u8))
    }

    /// The MQTT filters whose topics belong to these slots, and say how devices are.
    pub(super) fn status(&self) -> Vec<String> {
        self.filters("status")
    }

    /// The same for topics that say whether devices are there.
    pub(super) fn presence(&self) -> Vec<String> {
        self.filters("presence")
    }

    fn filters(&self, last_level: &str) -> Vec<String> {
        if self.0.len() == Slot::COUNT {
            return vec![format!("rollcall/+/+/{last_level}")];
        }
        self.0.iter().map(|slot| format!("rollcall/{slot:x}/+/{last_level}")).collect()
    }
}

impl FromStr for Slots {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "slots are written as hex digits and ranges of them, as 0-7 or 0-3,a,f";
        let digit = |text: &str| match u8::from_str_radix(text, 16) {
            Ok(slot) if text.len() == 1 => Ok(slot),
            _ => Err(HOW),
        };
        let mut slots = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (digit(first)?, digit(last)?);
            if first > last {
                return Err(HOW);
            }
            slots.extend(first..=last);
        }
        Ok(Self(slots))
    }
}

/// `0-7`, or `0-3,a,f`.
impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<u8> = self.0.iter().copied().collect();
        for (place, run) in slots.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first:x}-{last:x}")?,
                _ => write!(f, "{comma}{:x}", run[0])?,
            }
        }
        Ok(())
    }
}

/// A topic outside of Rollcall's, whose bare messages are counted too: that of a publisher not replaced yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainTopic {
    name: String,
    stands_for: String,
}

/// The device that the messages of a plain topic are counted for.
const PLAIN_DEVICE: &str = "plain";

impl PlainTopic {
    /// The topic to subscribe to, if it is one of `slots` to take it: one worker has to.
    pub(super) fn filter(&self, slots: &Slots) -> Option<String> {
        let topic = Topic::parse(&self.stands_for).ok()?;
        slots.contains(Slot::of(&topic.device)).then(|| self.name.clone())
    }

    /// The topic that a message published to `topic` is counted under.
    pub(super) fn renamed<'a>(&'a self, topic: &'a str) -> &'a str {
        if topic == self.name { &self.stands_for } else { topic }
    }
}

impl FromStr for PlainTopic {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.contains(['+', '#', '\0']) || text.starts_with('$') {
            return Err("a plain topic is one topic, without + and #");
        }
        if text.starts_with("rollcall/") {
            return Err("topics under rollcall/ are taken anyway");
        }
        let device = DeviceId::new(PLAIN_DEVICE).map_err(|_| "no device")?;
        let topic = Topic { device, kind: Kind::Status };
        Ok(Self { name: text.to_owned(), stands_for: topic.name().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_and_written_in_the_same_form() {
        for text in ["0-f", "0-7", "3", "0-3,a,e-f"] {
            assert_eq!(text.parse::<Slots>().unwrap().to_string(), text);
        }
        assert_eq!(Slots::all().to_string(), "0-f");
        for text in ["", "g", "10", "7-0", "0-", "0,,1", "-"] {
            assert!(text.parse::<Slots>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_worker_subscribes_to_its_slots_only() {
        assert_eq!(Slots::all().status(), ["rollcall/+/+/status"]);
        let slots: Slots = "0,a".parse().unwrap();
        assert_eq!(slots.status(), ["rollcall/0/+/status", "rollcall/a/+/status"]);
        assert_eq!(slots.presence(), ["rollcall/0/+/presence", "rollcall/a/+/presence"]);
    }

    #[test]
    fn a_plain_topic_stands_for_a_device_whose_slot_one_worker_takes() {
        let plain: PlainTopic = "devices/status".parse().unwrap();
        let takers = (0..16).filter(|slot| plain.filter(&Slots(BTreeSet::from([*slot]))).is_some());
        assert_eq!(takers.count(), 1);
        let topic = Topic::parse(plain.renamed("devices/status")).unwrap();
        assert_eq!(topic.device.as_str(), PLAIN_DEVICE);
        assert_eq!(plain.renamed("rollcall/0/a/status"), "rollcall/0/a/status");
        for text in ["", "a/+", "#", "$SYS/x", "rollcall/0/a/status"] {
            assert!(text.parse::<PlainTopic>().is_err(), "{text}");
        }
    }
}
