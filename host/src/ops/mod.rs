//! How the process is, for those who operate it: readiness, what is logged how often, and `rollcall doctor`.

pub mod check;
pub mod health;
pub mod tally;
