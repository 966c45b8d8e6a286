//! Intel's HEX format (Hexadecimal Object File Format Specification, revision A, 1988): what programmers of
//! every make read. Pure.

use std::fmt::Write;

/// Bytes a line.
const LINE: usize = 16;

/// Record types of the specification.
const DATA: u8 = 0;
const END: u8 = 1;
const UPPER_ADDRESS: u8 = 4;

/// `bytes` at `address`, as text.
pub(crate) fn encode(address: u32, bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut upper = None;
    for (at, line) in (address..).step_by(LINE).zip(bytes.chunks(LINE)) {
        let ([u1, u0, l1, l0], line) = (at.to_be_bytes(), line);
        if upper != Some([u1, u0]) {
            record(&mut text, [0, 0], UPPER_ADDRESS, &[u1, u0]);
            upper = Some([u1, u0]);
        }
        record(&mut text, [l1, l0], DATA, line);
    }
    record(&mut text, [0, 0], END, &[]);
    text
}

/// `:` length, address, type, data, and what makes the sum of all bytes zero.
fn record(text: &mut String, address: [u8; 2], kind: u8, data: &[u8]) {
    let head = [data.len() as u8, address[0], address[1], kind];
    let bytes = || head.iter().chain(data);
    let sum = bytes().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    text.push(':');
    for byte in bytes().chain(&[sum.wrapping_neg()]) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::encode;

    /// The data record is the one that the format's descriptions commonly show.
    #[test]
    fn lines_have_addresses_and_checksums() {
        let bytes =
            [0x21, 0x46, 0x01, 0x36, 0x01, 0x21, 0x47, 0x01, 0x36, 0x00, 0x7e, 0xfe, 0x09, 0xd2, 0x19, 0x01];
        let text = ":020000040000FA\n:10010000214601360121470136007EFE09D2190140\n:00000001FF\n";
        assert_eq!(encode(0x100, &bytes), text);
    }

    #[test]
    fn a_new_upper_half_is_said_once() {
        let text = encode(0x0800_fff0, &[0; 48]);
        let lines: Vec<_> = text.lines().map(|line| &line[..9]).collect();
        assert_eq!(lines, [":02000004", ":10FFF000", ":02000004", ":10000000", ":10001000", ":00000001"]);
    }
}
