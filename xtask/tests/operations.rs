//! What is packed for operators: the unit, the alert rules, the dashboard and the Debian package.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::{HostProcess, HostSettings, create_token};
use rollcall_harness::{skip, tools, workspace};
use serde_json::Value;

/// `systemd-analyze security` has a scale of ten, on which a unit without any limits is at 9.6.
const EXPOSURE_MAX: f64 = 2.0;

fn packaging(name: &str) -> PathBuf {
    workspace::root().join("host/packaging").join(name)
}

/// What it prints to a good end.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(said)
}

#[test]
fn the_unit_gives_the_service_no_more_than_it_needs() -> Result<()> {
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(packaging("rollcall.service"));
        command
    };
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip::report("operations, the unit", "there is no systemd-analyze");
    }
    let looked = said(&mut analyze(&["security", "--offline=true", "--no-pager"]))?;
    let exposure =
        looked.lines().last().and_then(|line| line.split_once(": ")?.1.split(' ').next()?.parse().ok());
    let exposure: f64 = exposure.with_context(|| looked.clone())?;
    assert!(exposure <= EXPOSURE_MAX, "{looked}");
    Ok(())
}

#[test]
fn prometheus_reads_the_alert_rules() -> Result<()> {
    let promtool = match tools::promtool() {
        Ok(tool) => tool,
        Err(reason) => return skip::report("operations, promtool", &format!("{reason:#}")),
    };
    let checked = said(promtool.command().args(["check", "rules"]).arg(packaging("alerts.yml")))?;
    assert!(checked.contains("SUCCESS"), "{checked}");
    Ok(())
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are_by_labels_that_they_have() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    // What is told of a file of credentials is told where there is one.
    let tokens_file = dir.path().join("tokens");
    let token = create_token(&settings.binary, &tokens_file)?;
    settings.arguments = vec!["--tokens-file".to_owned(), tokens_file.display().to_string()];
    let host = HostProcess::start(&settings)?;
    let asked = ureq::get(&host.url("/metrics")).header("Authorization", format!("Bearer {token}"));
    let metrics = asked.call()?.body_mut().read_to_string()?;
    let there = names(&metrics);
    let dashboard = fs::read_to_string(packaging("dashboard.json"))?;
    let parsed: Value = serde_json::from_str(&dashboard)?;
    assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() > 10), "{parsed}");
    for text in [dashboard, fs::read_to_string(packaging("alerts.yml"))?] {
        let asked = names(&text);
        assert!(asked.len() > 8, "{asked:?}");
        let missing: Vec<_> = asked.difference(&there).collect();
        assert!(missing.is_empty(), "{missing:?} is not in /metrics");
    }
    host.stop()
}

/// Every name of a metric in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let word = |byte: char| !byte.is_ascii_alphanumeric() && byte != '_';
    text.split(word).filter(|word| word.starts_with("rollcall_")).collect()
}
