//! Any document of another program is a sample or a refusal, and the same one whenever it is read.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rollcall_host::log::mongo::{Fields, sample_of_bytes};

static FIELDS: LazyLock<Fields> =
    LazyLock::new(|| Fields { status: "status".into(), timestamp: "timestamp".into() });

fuzz_target!(|document: &[u8]| {
    let read = sample_of_bytes(document, &FIELDS);
    if let Some(Ok(sample)) = read {
        // The year 9999 ends before.
        assert!(sample.status.get() < 7 && sample.sampled_at.0 < 253_402_300_800_000);
    }
    assert_eq!(read, sample_of_bytes(document, &FIELDS));
});
