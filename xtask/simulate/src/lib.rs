//! All of Rollcall in one thread from one seed: the real emitter, decoding, ingest, stores and queries, on a simulated
//! network and disk, by simulated clocks. The same seed leads to the same trace, byte for byte.
//!
//! A run has two phases: faults, then none. At random instants, and at the end, what the host holds and answers is
//! compared with what is known to have happened (`oracle`).

mod chance;
pub mod coverage;
mod device;
mod disk;
mod faults;
mod host;
mod hostile;
#[cfg(feature = "mutants")]
pub mod mutants;
mod net;
mod oracle;
mod peer;
mod process;
mod scene;
mod settings;
mod shrink;
mod store;
mod strike;
mod time;
mod trace;
mod world;

pub use self::faults::{Area, Fault, Scenario};
pub use self::scene::Failure;
pub use self::settings::Settings;
pub use self::shrink::shrink;
pub use self::world::{Outcome, run, schedule};
