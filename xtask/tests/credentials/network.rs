//! Two networks with a cable between them, servers in one and clients in the other: what is between them is not loopback,
//! and this machine's own network is not touched.
//!
//! Guarantees: both are gone when the test is, however it ends: the kernel removes a network and its cable when nobody is
//! in it or holds it any more.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::process::Process;
use rollcall_harness::{skip, wait, workspace};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Starting a process that makes a network.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Addresses that are kept for examples (RFC 5737): nobody's.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// See the module.
pub(crate) struct Networks(Option<Pair>);

struct Pair {
    servers: File,
    clients: File,
}

impl Networks {
    /// Where they are not allowed, that is reported as a skip, and servers and clients meet on loopback.
    pub(crate) fn new(test: &str) -> Result<Self> {
        match Pair::new() {
            Ok(pair) => Ok(Self(Some(pair))),
            Err(reason) => {
                let reason = format!("two networks need root and iproute2: {reason:#}");
                skip::report(&format!("{test}, from another network"), &reason)?;
                Ok(Self(None))
            }
        }
    }

    /// Are there two, and is what servers listen on so not loopback?
    pub(crate) fn are_two(&self) -> bool {
        self.0.is_some()
    }

    /// The address of the servers.
    pub(crate) fn server(&self) -> Ipv4Addr {
        if self.are_two() { SERVER } else { Ipv4Addr::LOCALHOST }
    }

    /// The address that they see of clients.
    pub(crate) fn client(&self) -> Ipv4Addr {
        if self.are_two() { CLIENT } else { Ipv4Addr::LOCALHOST }
    }

    /// Does this, and starts what it starts, where the servers are.
    pub(crate) fn among_servers<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(self.0.as_ref().map(|pair| &pair.servers), work)
    }

    /// Does this where the clients are.
    pub(crate) fn among_clients<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(self.0.as_ref().map(|pair| &pair.clients), work)
    }
}

impl Pair {
    fn new() -> Result<Self> {
        let dir = workspace::temporary_dir()?;
        // Each makes a network, and keeps it until it is held here.
        let [(servers, _server), (clients, client)] =
            [network("servers", dir.path())?, network("clients", dir.path())?];
        let client = client.pid().to_string();
        inside(Some(&servers), || {
            ip("link add cable type veth peer name cable netns", &[&client])?;
            connect(SERVER)
        })?;
        inside(Some(&clients), || connect(CLIENT))?;
        Ok(Self { servers, clients })
    }
}

/// A network with nothing in it but a process that waits.
fn network(name: &'static str, logs: &Path) -> Result<(File, Process)> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sleep", &START_LIMIT.as_secs().to_string()]);
    let mut process = Process::start(name, command, logs)?;
    let (own, its) = ("/proc/self/ns/net".to_owned(), format!("/proc/{}/ns/net", process.pid()));
    wait::until("a network of its own", START_LIMIT, || {
        process.check_alive()?;
        Ok((fs::read_link(&own)? != fs::read_link(&its)?).then_some(()))
    })?;
    Ok((File::open(its)?, process))
}

/// Gives this end of the cable its address, and loopback too.
fn connect(address: Ipv4Addr) -> Result<()> {
    ip("link set lo up", &[])?;
    ip("address add dev cable", &[&format!("{address}/24")])?;
    ip("link set cable up", &[])
}

fn ip(words: &str, more: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).args(more).output().context("there is no ip")?;
    ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Does `work` in a thread of its own, which moves into this network first: a thread's sockets and processes are where it
/// is.
fn inside<T: Send>(network: Option<&File>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            if let Some(network) = network {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            work()
        });
        working.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
