//! The number of sockets that a process may have.

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The standard streams, the reactor, signals, the network interface, and some to spare.
const BESIDES_DEVICES: u64 = 64;

/// Makes room for a socket a device.
///
/// # Errors
/// When the hard limit forbids it; the message says what to run.
pub(crate) fn allow_sockets(devices: u32) -> Result<()> {
    let needed = u64::from(devices) + BESIDES_DEVICES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|limit| limit >= needed) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|limit| limit >= needed),
        "{devices} devices need {needed} open files, and the limit is {}: \
         run `ulimit -Hn {needed}` as root, or take fewer devices",
        maximum.unwrap_or_default(),
    );
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })?)
}
