//! TLS at the doors: certificates of this host's own making, and which one is in force while a server runs.

mod authority;
mod certificate;
mod live;

pub use self::authority::{IssueError, Issued, issue};
pub use self::certificate::{Certificate, CertificateError, check};
pub use self::live::Certificates;
