//! Any bytes are an entry of the log or an error, and what is read is read again when it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::log::{entry_bytes, entry_of_bytes};
use rollcall_wire::Slot;

fuzz_target!(|bytes: &[u8]| {
    let slot = Slot::all().next().unwrap();
    if let Ok(entry) = entry_of_bytes(slot, 7, bytes) {
        let written = entry_bytes(&entry);
        let again = entry_of_bytes(slot, 7, &written).unwrap();
        assert_eq!(entry_bytes(&again), written);
    }
});
