//! How the process is, for those who operate it: readiness, metrics, what is logged how often, what starts a
//! part again, and `rollcall doctor`. Parts report here; it knows none of them.

mod by_status;
pub mod check;
mod clock;
mod credentials_file;
pub mod door;
mod events;
mod failed_logins;
mod file_stamp;
mod findings;
mod health;
mod log_limit;
mod metrics;
mod outage;
mod outcomes;
mod owner_file;
mod presence;
mod refused;
mod removed;
mod supervisor;

use std::sync::OnceLock;

pub use self::clock::watch_clock;
pub use self::credentials_file::CredentialsFile;
pub use self::failed_logins::FailedLogins;
pub(crate) use self::file_stamp::FileStamp;
pub use self::findings::Findings;
use self::health::Health;
pub use self::health::Part;
use self::log_limit::LogLimit;
pub use self::metrics::Metrics;
pub use self::outage::Outage;
pub use self::outcomes::{Answered, Dropped};
pub use self::owner_file::write_for_owner;
pub use self::presence::Presence;
pub use self::refused::{HttpRefused, Refused};
pub use self::removed::Removed;
pub use self::supervisor::{Failure, GivenUp, Supervised, supervise};
use crate::model::Statuses;

/// How the process is: one value, shared by all parts. What happens to them is reported by the methods in
/// `events`, each of which counts and logs, so that nothing is logged without a number or counted twice.
#[derive(Debug, Default)]
pub struct Ops {
    /// What is counted and measured.
    pub metrics: Metrics,
    /// Which devices have left.
    pub presence: Presence,
    health: Health,
    limit: LogLimit,
    statuses: OnceLock<Statuses>,
    mqtt_port: OnceLock<u16>,
}

impl Ops {
    /// A process whose `parts` have not come up yet.
    pub fn starting(parts: &[Part]) -> Self {
        let ops = Self::default();
        parts.iter().for_each(|part| ops.unhealthy(*part, &format_args!("the {part} is starting")));
        ops
    }

    /// Statuses are called so, wherever they are named.
    pub fn name_statuses(&self, statuses: Statuses) {
        self.metrics.by_status.named(&statuses);
        let _ = self.statuses.set(statuses);
    }

    /// What statuses mean.
    pub fn statuses(&self) -> Statuses {
        self.statuses.get().cloned().unwrap_or_default()
    }

    /// Devices publish to this port.
    pub fn listens_for_devices(&self, port: u16) {
        let _ = self.mqtt_port.set(port);
    }

    /// Where devices publish to, if this process listens for them.
    pub fn mqtt_port(&self) -> Option<u16> {
        self.mqtt_port.get().copied()
    }

    /// The part works.
    pub fn healthy(&self, part: Part) {
        self.health.healthy(part);
        self.metrics.part_healthy(part, true);
    }

    /// The part does not work, and why.
    pub fn unhealthy(&self, part: Part, reason: &dyn std::fmt::Display) {
        self.health.unhealthy(part, reason);
        self.metrics.part_healthy(part, false);
    }

    /// Why the process is not ready, if it is not: the reason of one unhealthy part.
    pub fn reason(&self) -> Option<String> {
        self.health.reason()
    }
}
