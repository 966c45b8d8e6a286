//! Values with a checksum: redb looks at its own only when it repairs a file, so a damaged value would be
//! read as it is. Each of ours ends with a CRC-32 over its table, its key and itself, which every read checks.

/// What follows a value: its CRC-32, least byte first.
pub(super) const SEAL_BYTES: usize = 4;

/// The value as it is stored under `key` in `table`.
pub(super) fn seal(table: &str, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(table, key, &value);
    value.extend_from_slice(&sum);
    value
}

/// The value out of what is stored; `None` when it is damaged, or not from this place.
pub(super) fn open<'a>(table: &str, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = stored.split_last_chunk::<SEAL_BYTES>()?;
    (checksum(table, key, value) == *sum).then_some(value)
}

fn checksum(table: &str, key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    // A name and a key have no byte in common with what follows them that could move the border.
    for part in [table.as_bytes(), &[0], key, value] {
        hasher.update(part);
    }
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_changed_or_moved_is_not_opened() {
        let sealed = seal("tail", &7_u64.to_le_bytes(), b"value".to_vec());
        assert_eq!(open("tail", &7_u64.to_le_bytes(), &sealed), Some(&b"value"[..]));
        assert_eq!(open("tail", &8_u64.to_le_bytes(), &sealed), None);
        assert_eq!(open("days", &7_u64.to_le_bytes(), &sealed), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(open("tail", &7_u64.to_le_bytes(), &damaged), None, "{at}");
            assert_eq!(open("tail", &7_u64.to_le_bytes(), &sealed[..at]), None, "{at}");
        }
    }
}
