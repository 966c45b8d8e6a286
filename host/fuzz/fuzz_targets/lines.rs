//! Any line of text is a record or a named refusal, and what is read of it is written and read again as it was. The first
//! line is the head of CSV, which the others are read with; each is read as JSON too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_host::model::{HEAD, LINE_MAX, Line, Record};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let head: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    for line in lines.take(16) {
        for read in [Line::of_csv(&head, line).ok(), serde_json::from_str(line).ok()].into_iter().flatten() {
            let Ok(record) = Record::try_from(&read) else { continue };
            let written = Line::from(&record);
            let head: Vec<_> = HEAD.split(',').collect();
            assert!(written.to_string().len() < LINE_MAX);
            assert_eq!(Line::of_csv(&head, &written.to_string()).as_ref(), Ok(&written));
            assert_eq!(Record::try_from(&written), Ok(record));
            let json = serde_json::to_string(&written).expect("a line is written");
            assert_eq!(serde_json::from_str::<Line>(&json).ok(), Some(written));
        }
    }
});
