//! From a message to an acknowledged record: decode → seen → log → acknowledge. It knows no kind of source and
//! no kind of store.

pub mod decode;
pub mod ingest;
pub mod partition;
pub mod seen;
