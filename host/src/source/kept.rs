//! How much of a message is kept while it waits: of what is longer than any that is counted, just so much that it
//! is still too long. So what waits is bounded in bytes wherever it is bounded in number.

use rollcall_wire::codec::PAYLOAD_MAX;
use rollcall_wire::topic::TOPIC_MAX;

/// Enough of a topic that is none of Rollcall's to be known by in a line of log.
const TOPIC_KEPT: usize = 2 * TOPIC_MAX;

const PAYLOAD_KEPT: usize = PAYLOAD_MAX + 1;

/// A topic, in memory of its own.
pub(super) fn topic(topic: &str) -> Box<str> {
    topic[..topic.floor_char_boundary(TOPIC_KEPT)].into()
}

/// A payload, in memory of its own.
pub(super) fn payload(payload: &[u8]) -> Box<[u8]> {
    payload[..payload.len().min(PAYLOAD_KEPT)].into()
}

#[cfg(test)]
mod tests {
    use rollcall_wire::codec::{Rejection, decode};
    use rollcall_wire::{DeviceId, Kind, Topic};

    use super::*;

    #[test]
    fn what_is_too_long_still_is_and_the_rest_is_kept_whole() {
        let device = DeviceId::new(&"d".repeat(32)).unwrap();
        let longest = Topic { device, kind: Kind::Presence }.to_string();
        assert_eq!(&*topic(&longest), longest);
        let longer = topic(&format!("{longest}{}", "é".repeat(5_000)));
        assert!(longer.len() <= TOPIC_KEPT && Topic::parse(&longer).is_err());
        let whole = [b' '; PAYLOAD_MAX];
        assert_eq!(&*payload(&whole), whole);
        let longer = payload(&[b' '; 5_000]);
        assert_eq!((longer.len(), decode(&longer)), (PAYLOAD_KEPT, Err(Rejection::TooLong)));
    }
}
