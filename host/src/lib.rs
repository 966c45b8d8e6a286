//! Rollcall's host: source → intake → log → api.
//!
//! Every message is timestamped, stored once and acknowledged only then. Dependencies point one way: `model`
//! and `ops` know nobody else, `log` and `credentials` know them alone, `source` and `api` let in whom `credentials`
//! know, `intake` puts what sources bring into the log, `fleet` says how the devices are that are in it, and `api` answers.

pub mod api;
pub mod credentials;
pub mod fleet;
pub mod intake;
pub mod log;
pub mod model;
pub mod ops;
pub mod source;
pub mod tls;
