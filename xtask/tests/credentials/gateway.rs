//! The gateway on an address that is not loopback: with and without TLS it takes from another network what a device says
//! for itself and nothing else, and it does not listen there without locks.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::{ports, tools};

use crate::network::Networks;
use crate::{Issued, SAMPLE, VERSIONS, topic};

/// What is refused of [`Issued::speak_for_others`] each time, by the name that it has in metrics and log.
const REFUSED: [(&str, usize); 3] =
    [("bad_user_name_or_password", 4), ("other_devices_topic", 2), ("other_devices_client_id", 1)];

#[test]
fn the_gateway_takes_from_another_network_what_a_device_says_for_itself() -> Result<()> {
    let Some(issued) = Issued::new()? else { return Ok(()) };
    let publisher = tools::mosquitto_pub()?;
    let networks = Networks::new("the gateway and the devices file")?;
    let server = networks.server();
    let tls = issued.folder("tls")?;
    issued.run(&["tls", "init", "--name", &server.to_string(), "--dir", &tls.to_string_lossy()])?;
    let tls_port = ports::free()?.to_string();
    let file = |name: &str| tls.join(name).display().to_string();
    let mut settings = issued.host("gateway")?;
    settings.mqtt_address = server;
    settings.arguments.extend(
        ["--allow-plaintext", "--mqtt-tls-listen", &format!("{server}:{tls_port}")].map(str::to_owned),
    );
    settings.arguments.extend(["--tls-cert".to_owned(), file("server.pem")]);
    settings.arguments.extend(["--tls-key".to_owned(), file("server.key")]);
    let host = networks.among_servers(|| HostProcess::start(&settings))?;
    let gateway: SocketAddr = host.broker().parse()?;
    let over_tls = |user: &str, password: Option<&str>, id: &str, device: &str| -> Result<bool> {
        let mut publish = publisher.command();
        publish.args(["-h", &server.to_string(), "-p", &tls_port, "--cafile", &file("ca.pem")]);
        publish.args(["-V", "5", "-q", "1", "-i", id, "-t", &topic(device)]);
        publish.arg("-m").arg(str::from_utf8(SAMPLE)?);
        if let Some(password) = password {
            publish.args(["-u", user, "-P", password]);
        }
        Ok(publish.output()?.status.success())
    };
    networks.among_clients(|| {
        for version in VERSIONS {
            assert!(issued.speak_for_others(gateway, version).is_empty(), "let in by another's client id");
            issued.speak_for_itself(gateway, version);
        }
        let (porch, attic, cellar) = (issued.porch.as_str(), &issued.attic, &issued.cellar);
        for (user, password, id) in [
            ("attic", Some(porch), "attic"),
            ("cellar", Some(cellar), "cellar"),
            ("porch", Some(cellar), "porch"),
            ("porch", None, "porch"),
            ("attic", Some(attic), "porch"),
        ] {
            ensure!(!over_tls(user, password, id, "porch")?, "{user} as {id} is let in over TLS");
        }
        // That it was refused is no failure of the publisher's.
        over_tls("porch", Some(porch), "porch", "attic")?;
        over_tls("porch", Some(porch), "porch", "kitchen")?;
        ensure!(over_tls("porch", Some(porch), "porch", "porch")?, "the device is not welcome over TLS");
        Ok(())
    })?;
    networks.among_servers(|| {
        assert_eq!(host.all_counts()?.total(), VERSIONS.len() as u64 + 1);
        for (name, each) in REFUSED {
            let metric = format!("rollcall_gateway_refusals_total{{reason=\"{name}\"}}");
            assert_eq!(host.metric(&metric)? as usize, each * (VERSIONS.len() + 1), "{name}");
        }
        Ok(())
    })?;
    let log = host.process().stderr()?;
    for (name, _) in REFUSED {
        let is_said = |line: &&str| {
            [&format!("reason=\"{name}\""), "total=1 ", &format!("client={}:", networks.client())]
                .iter()
                .all(|part| line.contains(*part))
        };
        assert_eq!(log.lines().filter(is_said).count(), 1, "{name}:\n{log}");
    }
    assert!([&issued.porch, &issued.attic, &issued.cellar].iter().all(|secret| !log.contains(*secret)));
    host.stop()
}

#[test]
fn the_gateway_does_not_listen_beyond_this_machine_without_locks() -> Result<()> {
    let Some(issued) = Issued::new()? else { return Ok(()) };
    let networks = Networks::new("listening without locks")?;
    if !networks.are_two() {
        return Ok(());
    }
    let short = issued.folder("short")?.join("password");
    fs::write(&short, "elevenchars\n")?;
    let short = short.display().to_string();
    let with_devices = issued.host("refused")?;
    let without = HostSettings { arguments: Vec::new(), ..with_devices.clone() };
    let fleet = ["--mqtt-user", "fleet", "--mqtt-password-file", &short, "--allow-plaintext"];
    let with_short = HostSettings { arguments: fleet.map(str::to_owned).into(), ..without.clone() };
    for (settings, says) in [
        (without, "--allow-anonymous"),
        (with_devices, "--allow-plaintext"),
        (with_short, "fewer than 12 characters"),
    ] {
        let settings = HostSettings { mqtt_address: networks.server(), ..settings };
        let (status, log) = networks.among_servers(|| HostProcess::start_refused(&settings))?;
        let address = format!("{}:{}", networks.server(), settings.mqtt_port);
        ensure!(!status.success() && log.contains(says) && log.contains(&address), "{status}: {log}");
        fs::remove_file(settings.logs.join("refused-host.err"))?;
    }
    Ok(())
}
