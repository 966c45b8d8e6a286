//! Rollcall's host: source → intake → log → api.
//!
//! Every message is timestamped, stored once and acknowledged only then. Dependencies point one way: `model`
//! and `ops` know nobody else, `source` and `log` know them alone, `intake` puts what sources bring into the
//! log, and `api` reads the log.

pub mod api;
pub mod intake;
pub mod log;
pub mod model;
pub mod ops;
pub mod source;
