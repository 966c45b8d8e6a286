//! Any query is a range or a problem that names its parameter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::api::parse_query;

fuzz_target!(|query: &str| {
    match parse_query(query) {
        Ok(range) => assert!(range.start <= range.end),
        Err(problem) => assert!(problem.status == 400 && problem.parameter.is_some()),
    }
});
