//! Who a board is when nobody said: an id and a MAC address made of its chip's unique number. Pure.

use rollcall_device::DeviceId;

/// The longest id that [`device_id`] makes.
const ID_MAX: usize = 32;

/// `prefix` and the number in hexadecimal, cut to what an id may hold.
///
/// The number's last digits differ most between chips of one wafer, so they are what is kept; `prefix`
/// is to be at most 8 characters of those of an id.
pub fn device_id(prefix: &str, unique: &[u8]) -> Option<DeviceId> {
    let mut id = [0; ID_MAX];
    let (start, digits) = id.split_at_mut_checked(prefix.len())?;
    start.copy_from_slice(prefix.as_bytes());
    let kept = &unique[unique.len() - unique.len().min(digits.len() / 2)..];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(kept) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
    let length = prefix.len() + 2 * kept.len();
    DeviceId::new(core::str::from_utf8(&id[..length]).ok()?).ok()
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// A unicast address of local administration (IEEE 802, the two lowest bits of the first byte): a hash of
/// the number, because neighbouring chips differ in a few bits only.
pub fn mac_address(unique: &[u8]) -> [u8; 6] {
    // 64-bit FNV-1a; offset basis and prime are those of draft-eastlake-fnv, section 5.
    let hash = unique.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Its upper bits depend on every byte, its lowest on few.
    let [a, b, c, d, e, f, ..] = hash.to_be_bytes();
    [(a & !0b11) | 0b10, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_prefix_and_the_number() {
        let id = device_id("pico-", &[0xe6, 0x60, 0x58, 0x38, 0x83, 0x1a, 0x0b, 0x2c]).unwrap();
        assert_eq!(id.as_str(), "pico-e66058388 31a0b2c".replace(' ', ""));
    }

    #[test]
    fn of_a_long_number_the_end_is_kept() {
        let id = device_id("h563-", &[0x11; 20]).unwrap();
        assert_eq!(id.as_str().len(), 5 + 26);
        let mut unique = [0; 20];
        unique[19] = 0xab;
        assert!(device_id("h563-", &unique).unwrap().as_str().ends_with("ab"));
    }

    #[test]
    fn a_prefix_that_is_not_for_ids_makes_none() {
        assert_eq!(device_id("Pico ", &[1]), None);
        assert_eq!(device_id("a-prefix-that-is-longer-than-an-id", &[1]), None);
    }

    #[test]
    fn addresses_are_local_unicast_and_differ_between_neighbours() {
        let addresses = [[0, 1, 2, 3], [0, 1, 2, 4], [1, 1, 2, 3]].map(|unique| mac_address(&unique));
        for address in addresses {
            assert_eq!(address[0] & 0b11, 0b10);
        }
        assert!(addresses[0] != addresses[1] && addresses[0] != addresses[2]);
    }
}
