//! The rows of a page as they are packed into two binaries: what does not change while a device runs, its id and its boot's,
//! and what does. Where a binary is as it was, MongoDB does not write it to its journal again.
//!
//! Those of a page are neighbours and alike: of each device's id stands only what it does not share with the one before, and
//! states stand by columns.

use mongodb::bson::Binary;
use mongodb::bson::spec::BinarySubtype;
use rollcall_wire::DeviceId;
use serde::{Deserialize, Serialize};

use super::columns::Columns;
use crate::log::devices::Sealed;
use crate::log::row::{Row, first_boot};
use crate::log::varint;

/// How long the id of a boot is in a state.
const BOOT_BYTES: usize = 8;

/// How many bytes a device's id shares with the one before, what follows, and the id of its first boot, or nothing.
type StoredId<'a> = (usize, &'a str, &'a [u8]);

/// What changes of rows, as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredRows {
    /// The `upto` of each row, and behind it its state without the id of its first boot.
    states: Columns,
    sealed: Vec<Vec<Sealed>>,
}

/// As a row was stored before format 15: whole, and row by row.
#[derive(Deserialize)]
struct EarlierRow<'a> {
    device: &'a str,
    upto: u64,
    state: &'a [u8],
    sealed: Vec<Sealed>,
}

/// Rows as they are stored.
pub(super) struct Packed {
    pub(super) ids: Binary,
    pub(super) rows: Binary,
}

/// Rows whose states were not looked at.
pub(super) struct PackedRows<'a> {
    ids: Vec<(DeviceId, &'a [u8])>,
    rows: StoredRows,
}

/// One of them.
pub(super) struct PackedRow<'a> {
    pub(super) device: DeviceId,
    rows: &'a PackedRows<'a>,
    at: usize,
}

/// Packs rows, which are in the order of their devices. A binary of the same length is changed where it is: it gets so many
/// bytes as it had, if it can, and otherwise room to grow.
pub(super) fn pack<'a>(rows: impl IntoIterator<Item = &'a Row>, room: usize) -> Packed {
    let (mut ids, mut states, mut sealed) = (Vec::<StoredId<'_>>::new(), Vec::new(), Vec::new());
    let mut before = "";
    for row in rows {
        let device = row.device.as_str();
        let shared = before.bytes().zip(device.bytes()).take_while(|(one, other)| one == other).count();
        let boot = first_boot(&row.state).and_then(|at| row.state.get(at..at + BOOT_BYTES).map(|_| at));
        let (head, rest) = row.state.split_at(boot.unwrap_or(0));
        let (boot, rest) = rest.split_at(if boot.is_some() { BOOT_BYTES } else { 0 });
        ids.push((shared, &device[shared..], boot));
        states.push(state(row.upto, head, rest));
        sealed.push(row.sealed.clone());
        before = device;
    }
    let mut rows = bytes(&StoredRows { states: Columns::of(&states), sealed });
    let fits = (rows.len()..=2 * rows.len()).contains(&room);
    rows.resize(if fits { room } else { rows.len() + rows.len() / 2 }, 0);
    let binary = |bytes| Binary { subtype: BinarySubtype::Generic, bytes };
    Packed { ids: binary(bytes(&ids)), rows: binary(rows) }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data always serialises into memory")
}

/// As it stands among others.
fn state(upto: u64, head: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(head.len() + rest.len() + 4);
    varint::put(&mut bytes, upto);
    bytes.extend(head);
    bytes.extend(rest);
    bytes
}

impl<'a> PackedRows<'a> {
    /// Reads what [`pack`] made, or an earlier version, which has no ids apart; `None` when it is something else.
    pub(super) fn read(ids: Option<&'a Binary>, rows: &'a Binary) -> Option<Self> {
        let Some(ids) = ids else { return Self::read_earlier(&rows.bytes) };
        let (rows, room) = postcard::take_from_bytes::<StoredRows>(&rows.bytes).ok()?;
        let stored: Vec<StoredId<'_>> = whole(&ids.bytes)?;
        let mut ids = Vec::with_capacity(stored.len());
        let mut id = String::new();
        for (shared, rest, boot) in stored {
            id.get(..shared)?;
            id.truncate(shared);
            id.push_str(rest);
            ids.push((DeviceId::new(&id).ok()?, boot));
        }
        let are_as_many = rows.states.len() == ids.len() && rows.sealed.len() == ids.len();
        (are_as_many && room.iter().all(|byte| *byte == 0)).then_some(Self { ids, rows })
    }

    fn read_earlier(rows: &[u8]) -> Option<Self> {
        let (mut ids, mut states, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        for row in whole::<Vec<EarlierRow<'_>>>(rows)? {
            ids.push((DeviceId::new(row.device).ok()?, &[][..]));
            states.push(state(row.upto, row.state, &[]));
            sealed.push(row.sealed);
        }
        Some(Self { ids, rows: StoredRows { states: Columns::of(&states), sealed } })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = PackedRow<'_>> {
        let ids = self.ids.iter().enumerate();
        ids.map(|(at, (device, _))| PackedRow { device: *device, rows: self, at })
    }
}

impl PackedRow<'_> {
    /// What it is, if it is one.
    pub(super) fn row(&self) -> Option<Row> {
        let ((_, boot), packed) = (self.rows.ids[self.at], self.rows.rows.states.get(self.at));
        let mut rest = &packed[..];
        let upto = varint::get(&mut rest)?;
        let mut state = rest.to_vec();
        if !boot.is_empty() {
            let at = first_boot(rest)?;
            state.splice(at..at, boot.iter().copied());
        }
        let sealed = self.rows.rows.sealed[self.at].clone();
        Some(Row { device: self.device, upto, state, sealed, closed: None })
    }
}

/// All of these bytes as one value.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rollcall_wire::BootId;

    use super::*;
    use crate::log::minutes::Minutes;
    use crate::log::row::{Boot, DeviceState};
    use crate::model::UnixMs;

    /// States of devices, and other bytes.
    fn state() -> impl Strategy<Value = Vec<u8>> {
        let boot = any::<u64>().prop_map(|id| Boot {
            id: BootId(id),
            open_from: 0,
            last_logged: UnixMs(1),
            ranges: Vec::new(),
        });
        let device = (any::<u32>(), prop::collection::vec(boot, 0..3)).prop_map(|(at, boots)| DeviceState {
            first_seen: UnixMs(at.into()),
            last_seen: UnixMs(at.into()),
            last_sample: None,
            undecided: 0,
            known_from: None,
            boots,
            counts: Minutes::default(),
        });
        prop_oneof![
            device.prop_map(|state| state.to_bytes()),
            (prop::collection::vec(any::<u8>(), 0..40)).prop_map(|bytes| [&[1][..], &bytes].concat()),
            prop::collection::vec(any::<u8>(), 0..100),
        ]
    }

    /// Rows in the order of their devices.
    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = ("[ab]{1,4}|[a-z0-9_-]{32}", any::<u64>(), state());
        prop::collection::vec(row, 0..9).prop_map(|rows| {
            let row = |(device, upto, state): (String, _, _)| {
                let device = DeviceId::new(&device).unwrap();
                (
                    device,
                    Row {
                        device,
                        upto,
                        state,
                        sealed: vec![Sealed::new(upto >> 1, Minutes::default())],
                        closed: None,
                    },
                )
            };
            rows.into_iter().map(row).collect::<BTreeMap<_, _>>().into_values().collect()
        })
    }

    fn read(ids: Option<&Binary>, rows: &Binary) -> Option<Vec<Row>> {
        PackedRows::read(ids, rows)?.iter().map(|row| row.row()).collect()
    }

    proptest! {
        #[test]
        fn rows_come_back_whatever_they_hold(rows in rows(), room in 0..1_000_usize) {
            let packed = pack(&rows, room);
            prop_assert_eq!(read(Some(&packed.ids), &packed.rows), Some(rows.clone()));
            let earlier: Vec<_> =
                rows.iter().map(|row| (row.device.as_str(), row.upto, &row.state[..], &row.sealed)).collect();
            let earlier = Binary { subtype: BinarySubtype::Generic, bytes: bytes(&earlier) };
            prop_assert_eq!(read(None, &earlier), Some(rows));
        }

        #[test]
        fn what_fits_into_its_room_keeps_its_length(rows in rows(), more in 0..100_usize) {
            let length = pack(&rows, 0).rows.bytes.len();
            let room = length - length.min(more) / 4;
            prop_assert_eq!(pack(&rows, room).rows.bytes.len(), room);
        }

        #[test]
        fn any_bytes_are_rows_or_none(
            rows in rows(),
            (in_ids, at, byte) in (any::<bool>(), any::<prop::sample::Index>(), any::<u8>()),
        ) {
            let mut packed = pack(&rows, 0);
            let bytes = if in_ids { &mut packed.ids.bytes } else { &mut packed.rows.bytes };
            *at.get_mut::<u8>(bytes) = byte;
            let _ = read(Some(&packed.ids), &packed.rows);
        }
    }
}
