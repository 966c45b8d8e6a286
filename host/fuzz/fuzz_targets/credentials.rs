//! Any file of devices or tokens is kept to the byte or refused with the number of a line; what is added can be read. So
//! is what was issued: a line is a device with its login, or has a number.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::credentials::{Device, Entry, List, Token};
use rollcall_provision::issued;

fuzz_target!(|bytes: &[u8]| {
    check::<Device>(bytes, b"porch kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    check::<Token>(bytes, b"page read kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    let Ok(text) = str::from_utf8(bytes) else { return };
    for line in issued(text) {
        match line {
            Ok((device, login)) => assert_eq!(device.as_str(), login.user()),
            Err(bad) => assert!(bad.line <= text.lines().count()),
        }
    }
});

fn check<E: Entry>(bytes: &[u8], line: &[u8]) {
    let mut list = match List::<E>::read(bytes) {
        Ok(list) => list,
        Err(error) => return assert!(error.line >= 1),
    };
    assert_eq!(list.text().as_bytes(), bytes);
    let words: Vec<_> = str::from_utf8(line).unwrap().split(' ').collect();
    let added = list.add(E::parse(&words).unwrap()).is_ok();
    let entries = list.entries().count();
    let again = List::<E>::read(list.text().as_bytes()).unwrap();
    assert_eq!(again.entries().count(), entries);
    assert!(!added || again.get(words[0]).is_some());
}
