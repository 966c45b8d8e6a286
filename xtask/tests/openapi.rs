//! What `/openapi.json` says is what is answered, as far as a program finds that knows nothing but the document.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::{HostProcess, HostSettings, create_token};
use rollcall_harness::mqtt::{Client, Version};
use rollcall_harness::{skip, tools, workspace};
use rollcall_wire::{DeviceId, Kind, Topic};

/// A range that is empty is as valid by a schema as one that ends before it starts, so that what is refused is no finding;
/// and a stream of events has no end.
const ARGUMENTS: [&str; 17] = [
    "--seed",
    "1",
    "--max-examples",
    "100",
    "--phases",
    "examples,coverage,fuzzing",
    "--exclude-checks",
    "positive_data_acceptance",
    "--exclude-operation-id",
    "live",
    "--continue-on-failure",
    "--warnings",
    "off",
    "--request-timeout",
    "30",
    "--no-color",
    "--no-shrink",
];

#[test]
fn schemathesis_finds_no_failure_and_nothing_that_is_not_documented() -> Result<()> {
    let schemathesis = match tools::schemathesis() {
        Ok(tool) => tool,
        Err(reason) => return skip::report("openapi, schemathesis", &format!("{reason:#}")),
    };
    let dir = workspace::temporary_dir()?;
    let mut settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let tokens = dir.path().join("tokens");
    let token = create_token(&settings.binary, &tokens)?;
    for is_locked in [false, true] {
        if is_locked {
            settings.arguments = vec!["--tokens-file".to_owned(), tokens.display().to_string()];
        }
        let host = HostProcess::start(&settings)?;
        record(&host)?;
        let mut command = schemathesis.command();
        command.current_dir(dir.path()).arg("run").arg(host.url("/openapi.json")).args(ARGUMENTS);
        // Those it leaves out of some requests, to see whether they are needed.
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "tokens: {is_locked}\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let cases = said
            .lines()
            .find_map(|line| line.trim().split_once(" generated"))
            .context("nothing was tried")?;
        println!("tokens: {is_locked}, {} cases", cases.0);
        host.stop()?;
    }
    Ok(())
}

/// Something that answers can tell of: two devices, of which one has a gap.
fn record(host: &HostProcess) -> Result<()> {
    let address: SocketAddr = host.broker().parse()?;
    let mut client = Client::connect(address, Version::V5);
    for (device, seq) in [("porch", 0), ("porch", 1), ("attic", 0), ("attic", 9)] {
        let device = DeviceId::new(device).map_err(|error| anyhow::anyhow!("{device}: {error}"))?;
        let topic = Topic { device, kind: Kind::Status }.name();
        let payload =
            format!(r#"{{"status":3,"seq":{seq},"boot":"0123456789abcdef","age_ms":{}}}"#, 9000 - seq * 1000);
        ensure!(client.publish(&topic, payload.as_bytes()).is_some_and(|answer| answer.reason() <= 0x10));
    }
    client.leave();
    Ok(())
}
