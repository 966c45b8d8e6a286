//! The stored form of a row's state: times as differences, for most of a row's times are close to one another.
//!
//! Until redb's format 9 and MongoDB's format 10 it was what postcard makes of [`DeviceState`], with each time whole. Rows of
//! that form are read as they are, and written anew when a message of their device comes.

use rollcall_wire::{BootId, Status};

use super::{Boot, DeviceState, OPEN_BOOTS_MAX, RANGES_MAX, SeqRange};
use crate::log::minutes::Minutes;
use crate::log::varint;
use crate::model::UnixMs;

/// What today's form begins with. The earlier one begins with a time, whose first byte is at least 0x80 for any later than the
/// first moments of 1970.
const VERSION: u8 = 1;

impl DeviceState {
    /// Its stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.counts.len());
        bytes.push(VERSION);
        varint::put(&mut bytes, self.last_seen.0);
        put_time(&mut bytes, self.first_seen, self.last_seen);
        match self.last_sample {
            None => bytes.push(0),
            Some((at, status)) => {
                bytes.push(1 + status.get());
                put_time(&mut bytes, at, self.last_seen);
            }
        }
        varint::put(&mut bytes, self.undecided);
        match self.known_from {
            None => bytes.push(0),
            Some(at) => {
                bytes.push(1);
                put_time(&mut bytes, at, self.last_seen);
            }
        }
        varint::put(&mut bytes, self.boots.len() as u64);
        let mut before = self.first_seen;
        for boot in &self.boots {
            bytes.extend(boot.id.0.to_le_bytes());
            varint::put(&mut bytes, boot.open_from);
            put_time(&mut bytes, boot.last_logged, self.last_seen);
            varint::put(&mut bytes, boot.ranges.len() as u64);
            let mut next = 0;
            for range in &boot.ranges {
                varint::put(&mut bytes, range.first.wrapping_sub(next));
                varint::put(&mut bytes, range.last.wrapping_sub(range.first));
                put_time(&mut bytes, range.first_at, before);
                put_time(&mut bytes, range.last_at, self.last_seen);
                (next, before) = (range.last.wrapping_add(1), range.last_at);
            }
        }
        bytes.extend(self.counts.as_bytes());
        bytes
    }

    /// Reads what [`DeviceState::to_bytes`] wrote, or an earlier version; `None` when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let state = read(bytes).or_else(|| read_earlier(bytes))?;
        state.is_sound().then_some(state)
    }
}

/// Reads the form of earlier versions.
fn read_earlier(bytes: &[u8]) -> Option<DeviceState> {
    let (state, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(state)
}

/// Where the id of the first boot begins in a state, if it has one and is of today's form. What is before tells it.
pub fn first_boot(state: &[u8]) -> Option<usize> {
    let mut rest = state;
    let (_, boots) = read_head(&mut rest)?;
    (boots > 0).then_some(state.len() - rest.len())
}

/// Reads what is before the boots, and how many these are.
fn read_head(bytes: &mut &[u8]) -> Option<(DeviceState, usize)> {
    *bytes = bytes.strip_prefix(&[VERSION])?;
    let last_seen = UnixMs(varint::get(bytes)?);
    let first_seen = time(bytes, last_seen)?;
    let last_sample = match byte(bytes)? {
        0 => None,
        status => Some((time(bytes, last_seen)?, Status::new(status - 1)?)),
    };
    let undecided = varint::get(bytes)?;
    let known_from = match byte(bytes)? {
        0 => None,
        1 => Some(time(bytes, last_seen)?),
        _ => return None,
    };
    let (boots, counts) = (Vec::new(), Minutes::default());
    let head = DeviceState { first_seen, last_seen, last_sample, undecided, known_from, boots, counts };
    Some((head, length(bytes, OPEN_BOOTS_MAX)?))
}

fn read(mut bytes: &[u8]) -> Option<DeviceState> {
    let bytes = &mut bytes;
    let (head, boots) = read_head(bytes)?;
    let last_seen = head.last_seen;
    let mut before = head.first_seen;
    let mut boots = Vec::with_capacity(boots);
    for _ in 0..boots.capacity() {
        let (id, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        let open_from = varint::get(bytes)?;
        let last_logged = time(bytes, last_seen)?;
        let mut ranges = Vec::with_capacity(length(bytes, RANGES_MAX)?);
        let mut next = 0_u64;
        for _ in 0..ranges.capacity() {
            let first = next.checked_add(varint::get(bytes)?)?;
            let last = first.checked_add(varint::get(bytes)?)?;
            let first_at = time(bytes, before)?;
            let last_at = time(bytes, last_seen)?;
            ranges.push(SeqRange { first, last, first_at, last_at });
            (next, before) = (last.checked_add(1)?, last_at);
        }
        boots.push(Boot { id: BootId(u64::from_le_bytes(*id)), open_from, last_logged, ranges });
    }
    Some(DeviceState { boots, counts: Minutes::from_bytes(bytes)?, ..head })
}

fn put_time(bytes: &mut Vec<u8>, at: UnixMs, from: UnixMs) {
    varint::put_signed(bytes, at.0.wrapping_sub(from.0).cast_signed());
}

fn time(bytes: &mut &[u8], from: UnixMs) -> Option<UnixMs> {
    Some(UnixMs(from.0.wrapping_add_signed(varint::get_signed(bytes)?)))
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    bytes.split_off_first().copied()
}

fn length(bytes: &mut &[u8], most: usize) -> Option<usize> {
    usize::try_from(varint::get(bytes)?).ok().filter(|length| *length <= most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Counts;
    use rollcall_wire::Sequence;

    /// Any time at all, and those that are close to one another.
    fn at() -> impl Strategy<Value = UnixMs> {
        prop_oneof![4 => 1_790_000_000_000..1_790_000_100_000_u64, 1 => any::<u64>()].prop_map(UnixMs)
    }

    prop_compose! {
        /// Those of a boot, with gaps between them.
        fn ranges()(
            steps in prop::collection::vec((1..1_000_u64, 0..1_000_000_u64, at(), at()), 1..6),
            start in prop_oneof![4 => Just(0), 1 => Just(Sequence::MAX.get() - 7_000_000)],
        ) -> Vec<SeqRange> {
            let mut next = start;
            let range = |(gap, length, first_at, last_at)| {
                let first = next + gap;
                next = first + length + 1;
                SeqRange { first, last: first + length, first_at, last_at }
            };
            steps.into_iter().map(range).collect()
        }
    }

    prop_compose! {
        fn boot()(
            id in any::<u64>().prop_map(BootId),
            open_from in prop_oneof![Just(0), any::<u64>()],
            last_logged in at(),
            ranges in ranges(),
        ) -> Boot {
            Boot { id, open_from, last_logged, ranges }
        }
    }

    prop_compose! {
        fn state()(
            (first_seen, last_seen, known_from) in (at(), at(), prop::option::of(at())),
            last_sample in prop::option::of((at(), (0..7_u8).prop_map(|status| Status::new(status).unwrap()))),
            undecided in prop_oneof![Just(0), any::<u64>()],
            boots in prop::collection::vec(boot(), 0..=OPEN_BOOTS_MAX),
            counted in prop::collection::vec((any::<u32>(), 1..9_u64), 0..9),
        ) -> DeviceState {
            let mut counts = Minutes::default();
            for (minute, unknown) in counted {
                counts.add(minute, &Counts { unknown, ..Counts::default() });
            }
            DeviceState { first_seen, last_seen, last_sample, undecided, known_from, boots, counts }
        }
    }

    proptest! {
        #[test]
        fn a_state_comes_back_from_its_form_and_from_the_one_before(state in state()) {
            let bytes = state.to_bytes();
            prop_assert_eq!(DeviceState::from_bytes(&bytes), Some(state.clone()));
            let boot = first_boot(&bytes).map(|at| bytes[at..at + 8].to_vec());
            prop_assert_eq!(boot, state.boots.first().map(|boot| boot.id.0.to_le_bytes().to_vec()));
            let before = postcard::to_allocvec(&state).unwrap();
            prop_assert_eq!(DeviceState::from_bytes(&before), Some(state));
        }

        #[test]
        fn any_bytes_are_a_state_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..80), todays in any::<bool>()) {
            if todays && let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Some(state) = DeviceState::from_bytes(&bytes) {
                prop_assert_eq!(DeviceState::from_bytes(&state.to_bytes()), Some(state));
            }
        }

        #[test]
        fn a_state_that_was_cut_is_not_taken_for_another(state in state(), cut in 1..9_usize) {
            let state = DeviceState { counts: Minutes::default(), ..state };
            let bytes = state.to_bytes();
            prop_assert_eq!(DeviceState::from_bytes(&bytes[..bytes.len().saturating_sub(cut)]), None);
        }
    }
}
