//! Numbers as bytes, as postcard has them too: 7 bits a byte, the lowest first; all bytes but the last have their high bit
//! set.

/// Writes a number.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Writes a number that may be negative, so that those near 0 are short (zigzag, as postcard has it).
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, (number << 1 ^ number >> 63).cast_unsigned());
}

/// Reads one as [`put_signed`] writes it, and not otherwise.
pub(super) fn get_signed(bytes: &mut &[u8]) -> Option<i64> {
    let number = get(bytes)?;
    Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

/// Reads one as [`put`] writes it, and not otherwise.
#[inline]
pub(super) fn get(bytes: &mut &[u8]) -> Option<u64> {
    // Most have one.
    if let Some((byte @ ..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some((*byte).into());
    }
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return (*byte > 0 && number >> shift == u64::from(*byte)).then_some(number);
        }
    }
    None
}
