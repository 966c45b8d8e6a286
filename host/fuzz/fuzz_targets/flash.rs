//! Any bytes in flash are a record that is written as the same bytes, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_device::fuzz::record_comes_back;

fuzz_target!(|bytes: &[u8]| assert!(record_comes_back(bytes)));
