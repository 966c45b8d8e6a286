//! Rollcall's host: source → decode → seen → log → rollups → counts → HTTP.
//!
//! Every message is timestamped, stored once and acknowledged only then. Dependencies point along the flow;
//! `api` and `ingest` meet in the store only.

pub mod api;
pub mod checkup;
pub mod counts;
pub mod decode;
pub mod health;
pub mod ingest;
pub mod log;
pub mod partition;
pub mod rollup;
pub mod seen;
pub mod source;
pub mod time;
