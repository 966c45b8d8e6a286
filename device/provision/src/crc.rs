//! CRC-32 as in IEEE 802.3: reflected, polynomial 0x04C11DB7, start and final inversion of all ones.

/// The checksum of `bytes`. Bit by bit: a table would be larger than what is checked with it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::crc32;

    /// The check value that every catalogue of CRCs names.
    #[test]
    fn the_check_value_is_right() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
