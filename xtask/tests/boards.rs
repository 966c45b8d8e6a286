//! `cargo xtask provision` and `flash`: what reaches a board, and what is said when tool or probe is missing.
//!
//! No board is needed: probe-rs is a script here that writes down how it was called.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use rollcall_harness::{hardware_board, workspace};
use rollcall_provision::{BLOCK_SIZE, Block, Host, Pin};

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments);
    command
}

/// A PATH on which `probe-rs` is this shell script, or missing.
fn with_probe_rs(command: &mut Command, dir: &Path, script: Option<&str>) -> Result<Output> {
    if let Some(script) = script {
        let tool = dir.join("probe-rs");
        fs::write(&tool, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
    }
    Ok(command.env("PATH", dir).output()?)
}

/// The address and bytes of an Intel HEX file, read apart from what wrote it.
fn read_hex(text: &str) -> (u32, Vec<u8>) {
    let (mut upper, mut start, mut bytes) = (0, None, Vec::new());
    for line in text.lines() {
        let line: Vec<u8> =
            (1..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        assert_eq!(line.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
        let data = &line[4..line.len() - 1];
        match line[3] {
            4 => upper = u32::from(u16::from_be_bytes([data[0], data[1]])) << 16,
            0 => {
                start.get_or_insert(upper | u32::from(u16::from_be_bytes([line[1], line[2]])));
                bytes.extend(data);
            }
            _ => {}
        }
    }
    (start.unwrap(), bytes)
}

#[test]
fn provision_writes_the_settings_to_the_sector_that_the_board_reads() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let (password, out) = (dir.path().join("password"), dir.path().join("block.hex"));
    fs::write(&password, "s3cret\nsecond line\n")?;
    for board in ["nucleo-h563zi", "w5500-evb-pico"] {
        let output = xtask(&["provision", board, "--broker", "broker.example:8883", "--device", "porch"])
            .args(["--period-ms", "250", "--user", "fleet", "--password-file"])
            .arg(&password)
            .arg("--out")
            .arg(&out)
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::metadata(&out)?.permissions().mode() & 0o777, 0o600);
        let (address, bytes) = read_hex(&fs::read_to_string(&out)?);
        assert_eq!(address, hardware_board::find(board)?.configuration()?.start);
        let block = Block::from_bytes(<[u8; BLOCK_SIZE]>::try_from(bytes).unwrap());
        let settings = block.settings()?;
        assert_eq!(settings.broker.host, Host::parse("broker.example")?);
        assert_eq!((settings.broker.port.get(), settings.period_ms.get()), (8883, 250));
        assert_eq!(settings.device.unwrap().as_str(), "porch");
        let login = settings.login.unwrap();
        assert_eq!((login.user(), login.password()), ("fleet", &b"s3cret"[..]));
    }
    Ok(())
}

#[test]
fn provision_takes_what_rollcall_devices_issues() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let (issued, out) = (dir.path().join("issued.csv"), dir.path().join("block.hex"));
    let (first, newer) = ("1".repeat(64), "2".repeat(64));
    let one = format!("porch,{first}\n");
    let several = format!("porch,{first}\nattic,{first}\nporch,{newer}\n");
    for (text, device, password) in [(&one, None, &first), (&several, Some("porch"), &newer)] {
        fs::write(&issued, text)?;
        let mut command = xtask(&["provision", "w5500-evb-pico", "--broker", "192.0.2.7", "--credentials"]);
        command.arg(&issued).arg("--out").arg(&out);
        command.args(device.iter().flat_map(|device| ["--device", *device]));
        let output = command.output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (_, bytes) = read_hex(&fs::read_to_string(&out)?);
        let block = Block::from_bytes(<[u8; BLOCK_SIZE]>::try_from(bytes).unwrap());
        let settings = block.settings()?;
        assert_eq!(settings.device.unwrap().as_str(), "porch");
        let login = settings.login.unwrap();
        assert_eq!((login.user(), login.password()), ("porch", password.as_bytes()));
    }
    for (text, device, reason) in [
        (several.as_str(), None, "say which"),
        (&several, Some("cellar"), "no line for cellar"),
        ("porch secret\n", None, "line 1 is not id,password"),
        ("", None, "there is no device"),
    ] {
        fs::write(&issued, text)?;
        let mut command = xtask(&["provision", "w5500-evb-pico", "--broker", "192.0.2.7", "--credentials"]);
        command.arg(&issued).arg("--out").arg(&out);
        command.args(device.iter().flat_map(|device| ["--device", *device]));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{said}");
        assert!(!said.contains("secret") && !said.contains(&first), "{said}");
    }
    Ok(())
}

/// Two public keys in form, as `rollcall tls init` prints them: a 4, and 64 ones or twos.
const PINS: [&str; 2] = [
    "BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "BAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
];

#[test]
fn provision_writes_whom_to_believe_over_tls_and_another_seed_each_time() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let out = dir.path().join("block.hex");
    let mut seeds = Vec::new();
    for flags in [&["--tls-pin", PINS[0]][..], &["--tls-pin", PINS[0], "--tls-pin-next", PINS[1]]] {
        let mut command = xtask(&["provision", "w5500-evb-pico", "--broker", "192.0.2.7"]);
        let output = command.args(flags).arg("--out").arg(&out).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (_, bytes) = read_hex(&fs::read_to_string(&out)?);
        let block = Block::from_bytes(<[u8; BLOCK_SIZE]>::try_from(bytes).unwrap());
        let settings = block.settings()?;
        assert_eq!(settings.broker.port.get(), 8883);
        let tls = settings.tls.unwrap();
        assert_eq!(tls.pin, Pin::parse(PINS[0])?);
        assert_eq!(tls.next, flags.get(3).map(|pin| Pin::parse(pin)).transpose()?);
        seeds.push(tls.seed);
    }
    assert_ne!(seeds[0], seeds[1]);
    Ok(())
}

#[test]
fn provision_hands_probe_rs_the_block_and_resets_the_board() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let script = "case $1 in list) echo '[0]: STLink';; *) echo \"$*\" >> \"${0%/*}/calls\";; esac\n\
        while [ $# -gt 1 ]; do shift; done\n\
        if [ -f \"$1\" ]; then while read -r line; do echo \"$line\"; done < \"$1\" > \"${0%/*}/block.hex\"; fi";
    let mut command = xtask(&["provision", "nucleo-h563zi", "--broker", "192.0.2.7"]);
    let cargo = env!("CARGO");
    let output = with_probe_rs(command.env("CARGO", cargo), dir.path(), Some(script))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(dir.path().join("calls"))?;
    let calls: Vec<_> = calls.lines().collect();
    assert!(calls[0].starts_with("download --chip STM32H563ZITx --binary-format hex /"), "{calls:?}");
    assert_eq!(calls[1], "reset --chip STM32H563ZITx");
    let written = calls[0].rsplit(' ').next().unwrap();
    assert!(!fs::exists(written)?, "the file with the block is left behind");
    let (_, bytes) = read_hex(&fs::read_to_string(dir.path().join("block.hex"))?);
    let block = Block::from_bytes(<[u8; BLOCK_SIZE]>::try_from(bytes).unwrap());
    assert_eq!(block.settings()?.broker.host, Host::parse("192.0.2.7")?);
    assert_eq!(block.settings()?.device, None);
    Ok(())
}

#[test]
fn provision_refuses_what_no_board_could_use() -> Result<()> {
    let refused = |arguments: &[&str], said: &str| -> Result<()> {
        let output =
            xtask(&["provision", "w5500-evb-pico", "--out", "/dev/null"]).args(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{arguments:?}: {error}");
        Ok(())
    };
    refused(&["--broker", "::1"], "want HOST or HOST:PORT")?;
    refused(&["--broker", "a", "--tls-pin", "BA=="], "not a pin as `rollcall tls init` prints it")?;
    refused(&["--broker", "a", "--tls-pin-next", PINS[0]], "--tls-pin-next needs --tls-pin")?;
    refused(&["--broker", "192.0.2.300"], "not an IPv4 address")?;
    refused(&["--broker", "broker:0"], "want HOST or HOST:PORT")?;
    refused(&["--broker", "broker", "--device", "Porch"], "a device id is 1 to 32")?;
    refused(&["--broker", "broker", "--user", "fleet"], "belong together")?;
    let both = ["--broker", "broker", "--user", "fleet", "--password-file", "f", "--credentials", "f"];
    refused(&both, "takes the place of")?;
    refused(&["--broker", "broker", "--period-ms", "0"], "--period-ms")?;
    refused(&["--broker", "broker", "--colour", "red"], "unexpected argument")
}

#[test]
fn without_the_tool_it_says_what_to_install_and_connect() -> Result<()> {
    for command in [&["flash", "w5500-evb-pico"][..], &["provision", "w5500-evb-pico", "--broker", "broker"]]
    {
        let dir = workspace::temporary_dir()?;
        let output = with_probe_rs(xtask(command).env("CARGO", env!("CARGO")), dir.path(), None)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains("cargo install probe-rs-tools --locked"), "{said}");
        assert!(said.contains("connect a debug probe"), "{said}");
    }
    Ok(())
}

#[test]
fn without_a_probe_it_says_what_to_connect_before_it_builds() -> Result<()> {
    let dir = workspace::temporary_dir()?;
    let mut command = xtask(&["flash", "nucleo-h563zi"]);
    let script = Some("echo 'No debug probes were found.'");
    let output = with_probe_rs(command.env("CARGO", env!("CARGO")), dir.path(), script)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("finds no debug probe. Connect the USB port CN1"), "{said}");
    assert!(!said.contains("Compiling"), "{said}");
    Ok(())
}
