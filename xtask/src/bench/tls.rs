//! The same loads over TLS, with a certificate as `rollcall tls init` makes it.

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use rollcall_harness::host::HostProcess;
use rollcall_harness::mqtt::{ConnectPacket, Version};
use rollcall_harness::ports;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::table::{self, Target};
use super::wire::{Door, Wire};
use super::{Fresh, usage};

/// Clients that come and leave, and how many come at a time.
const ARRIVALS: usize = 10_000;
const AT_A_TIME: usize = 8;

/// Gives a host that is not started yet a door with TLS.
pub(super) fn door(fresh: &mut Fresh) -> Result<Door> {
    let (dir, binary) = (fresh.dir.path().join("tls"), &fresh.settings.binary);
    let mut init = Command::new(binary);
    init.args(["tls", "init", "--name", "localhost", "--dir"]).arg(&dir);
    let made = init.output()?;
    ensure!(made.status.success(), "tls init: {}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| dir.join(name).display().to_string();
    let address = format!("127.0.0.1:{}", ports::free()?);
    fresh.settings.arguments.extend(["--mqtt-tls-listen".to_owned(), address.clone()]);
    fresh.settings.arguments.extend(["--tls-cert".to_owned(), file("server.pem")]);
    fresh.settings.arguments.extend(["--tls-key".to_owned(), file("server.key")]);

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // Each handshake is a whole one, as that of a device that comes for the first time.
    config.resumption = Resumption::disabled();
    Ok(Door::Tls(address, Arc::new(config)))
}

/// How many clients are let in a second, with TLS and without.
pub(super) fn arrivals(mut fresh: Fresh) -> Result<()> {
    table::heading("clients that come and leave, 8 at a time");
    let with_tls = door(&mut fresh)?;
    let host = HostProcess::start(&fresh.settings)?;
    let pid = host.process().pid();
    for (how, door) in [("without TLS", Door::Plain(host.broker())), ("with TLS, whole handshakes", with_tls)]
    {
        let (cpu_before, start) = (usage::cpu_time(pid)?, Instant::now());
        thread::scope(|scope| {
            let some = || -> Result<()> {
                for _ in 0..ARRIVALS / AT_A_TIME {
                    Wire::open(&door, &ConnectPacket::new(Version::V5, ""))
                        .context("a client that arrives")?;
                }
                Ok(())
            };
            let arriving: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(some)).collect();
            arriving
                .into_iter()
                .try_for_each(|some| some.join().map_err(|_| anyhow!("a thread of the load panicked"))?)
        })?;
        let rate = ARRIVALS as f64 / start.elapsed().as_secs_f64();
        let cpu_s = (usage::cpu_time(pid)? - cpu_before).as_secs_f64();
        table::print(&format!("clients let in a second, {how}"), rate, "", Target::None);
        let each = cpu_s * 1e6 / ARRIVALS as f64;
        table::print(&format!("processor time of the host for each, {how}"), each, "µs", Target::None);
    }
    host.stop()
}
