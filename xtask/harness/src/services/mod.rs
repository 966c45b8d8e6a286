//! A real RabbitMQ 4, mosquitto and mongod without a container engine: fetched under `target/`, run on free
//! loopback ports with data of their own. For `cargo xtask services`, the benchmark and the system tests.
//!
//! Guarantees: nothing is installed on the system; a server that is dropped has ended with all its helpers.

mod daemon;
mod mongod;
mod mosquitto;
mod rabbitmq;
mod replica_set;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use self::daemon::{Daemon, RunningDaemon};
pub use self::mongod::Mongod;
pub use self::mosquitto::Mosquitto;
pub use self::rabbitmq::{PASSWORD, Rabbitmq, RabbitmqNode, USER};
pub use self::replica_set::ReplicaSet;
use crate::process::Process;
use crate::{skip, tools, wait, workspace};

/// What `rollcall tls init` makes and a broker needs: the authority, the certificate, its key.
const CERTIFICATES: [&str; 3] = ["ca.pem", "server.pem", "server.key"];

/// RabbitMQ takes 3 to 10 s on an idle machine.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Programs, and the data of `cargo xtask services`.
fn services_dir() -> PathBuf {
    workspace::root().join("target/services")
}

/// The certificates of the brokers of `cargo xtask services`: the authority is `ca.pem`, and what devices pin is in
/// `pin`.
pub fn certificates_dir() -> PathBuf {
    services_dir().join("tls")
}

/// The folder of one server's programs, filled by `fill` if no earlier run has filled it.
fn prepared(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let programs = services_dir().join("programs");
    fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
    tools::prepare_in(&programs, name, |dir| {
        eprintln!("fetching {name} into {} …", dir.display());
        fill(dir).with_context(|| format!("cannot fetch {name}"))
    })
}

/// Whether this machine can run RabbitMQ and mongod, which it fetches if need be. When it cannot, that is
/// reported as the reason why `test` is skipped.
///
/// # Errors
/// With CI=true, where a test that cannot run is a failure.
pub fn can_run(test: &str) -> Result<bool> {
    match rabbitmq::fetch_all().and_then(|()| mongod::fetch()) {
        Ok(()) => Ok(true),
        Err(reason) => skip::report(test, &format!("{reason:#}")).map(|()| false),
    }
}

/// As [`can_run`], of mongod alone.
///
/// # Errors
/// With CI=true, where a test that cannot run is a failure.
pub fn can_run_mongod(test: &str) -> Result<bool> {
    match mongod::fetch() {
        Ok(()) => Ok(true),
        Err(reason) => skip::report(test, &format!("{reason:#}")).map(|()| false),
    }
}

/// Whether something listens at this port of the loopback interface.
fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn wait_until_it_listens(process: &mut Process, what: &str, port: u16) -> Result<()> {
    wait::until(&format!("{what} to listen at port {port}"), READY_LIMIT, || {
        process.check_alive()?;
        Ok(listens(port).then_some(()))
    })
    .with_context(|| process.last_words())
}
