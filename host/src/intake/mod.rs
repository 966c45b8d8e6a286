//! From a message to an acknowledged record: decode → seen → log → acknowledge. It knows no kind of source and
//! no kind of store.

mod batch;
pub mod decode;
mod flush;
pub mod ingest;
mod keep_storing;
mod log_clock;
pub mod partition;
mod rebuild;
mod recount;
mod restored;
mod retention;
mod run;
pub mod seen;
mod taken;
mod timing;

pub use self::flush::{BadFlushInterval, FLUSH_MESSAGES, FlushInterval};
pub use self::keep_storing::keep_storing;
pub use self::rebuild::rebuild;
pub use self::recount::recount;
#[cfg(feature = "testing")]
pub use self::retention::remove_old_once;
pub use self::retention::{BadKeepMessages, KeepMessages, remove_old};
pub use self::timing::ClockReading;
