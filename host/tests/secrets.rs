//! No password, token or key is in what a process says or shows, however much it is asked to log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/tls.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod relay;
#[path = "common/serve.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod serve;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rollcall_harness::mqtt::{CONNACK, Client, ConnectPacket, PUBACK, Version};
use rollcall_wire::{DeviceId, Kind, Topic};
use tokio_rustls::rustls::version::TLS13;

use self::relay::Relay;
use self::serve::{Process, get, rollcall};

const FLEET: &str = "the password of the whole fleet";
const WRONG: &str = "a password that is nobody's";
const WRONG_TOKEN: &str = "a-token-that-is-nobodys";

/// Runs `rollcall` to a good end, and gives what it prints.
fn run(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    let output = command.args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `ps` shows of a process.
fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned()
}

/// None of them stands in a text, nor 20 characters of it in a row.
fn assert_absent(secrets: &[String], text: &str) {
    for secret in secrets {
        let part = &secret[..secret.len().min(20)];
        assert!(!text.contains(part), "a secret is shown in\n{}", text.replace(part, "[the secret]"));
    }
}

#[test]
fn what_a_process_logs_and_shows_has_no_secret_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let issued = run(directory.path(), &["devices", "issue", "porch", "--devices-file", "devices"]);
    let porch = issued.trim().strip_prefix("porch,").unwrap().to_owned();
    let token =
        run(directory.path(), &["token", "create", "eve", "--role", "read", "--tokens-file", "tokens"]);
    let token = token.split_whitespace().last().unwrap().to_owned();
    run(directory.path(), &["tls", "init", "--name", "localhost", "--dir", "."]);
    fs::write(file("fleet"), format!("{FLEET}\n")).unwrap();
    let mut secrets: Vec<String> = [FLEET, WRONG, WRONG_TOKEN, &porch, &token].map(str::to_owned).to_vec();
    for name in ["server.key", "ca.key"] {
        let pem = fs::read_to_string(file(name)).unwrap();
        secrets.extend(pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    // What is kept of them is nobody's business either.
    for name in ["devices", "tokens"] {
        let kept = fs::read_to_string(file(name)).unwrap();
        let words = kept.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
        secrets.extend(words.filter(|word| word.len() > 30).map(str::to_owned));
    }
    assert!(secrets.len() >= 10, "{}", secrets.len());

    // Where core files are written.
    let mut command = Command::new("sh");
    let script = "ulimit -S -c $(ulimit -H -c) && exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_rollcall"), "serve", "--store"]);
    command.arg(format!("redb:{}", file("data").display()));
    command.args(["--log", "trace", "--mqtt-user", "fleet", "--mqtt-password-file"]).arg(file("fleet"));
    command.arg("--devices-file").arg(file("devices")).arg("--tokens-file").arg(file("tokens"));
    command.args(["--mqtt-tls-listen", "127.0.0.1:0", "--http-tls-listen", "127.0.0.1:0"]);
    command.arg("--tls-cert").arg(file("server.pem")).arg("--tls-key").arg(file("server.key"));
    let process = Process::start_listening(command, &["mqtt", "mqtts", "http", "https"]);
    let relay = Relay::start(process.listens("mqtts"), &file("ca.pem"), &TLS13, false);
    let topic = Topic { device: DeviceId::new("porch").unwrap(), kind: Kind::Status }.name();
    for (address, version) in [(process.mqtt, Version::V5), (relay.address, Version::V311)] {
        for (user, password, good) in [
            ("fleet", FLEET, true),
            ("porch", porch.as_str(), true),
            ("porch", WRONG, false),
            (WRONG, FLEET, false),
        ] {
            let mut client = Client::hello(address, version, "", Some((user, password)));
            let connack = client.receive().unwrap();
            assert_eq!((connack.kind(), connack.body[1] == 0), (CONNACK, good), "{user}");
            if good {
                let puback = client.publish(&topic, br#"{"status":3}"#).unwrap();
                assert_eq!((puback.kind(), puback.reason()), (PUBACK, 0));
                // It makes no sense in a connection, and has a password in it.
                let login = Some((user, password));
                client.send(&ConnectPacket { login, ..ConnectPacket::new(version, "") }.encode());
                client.leave();
            }
        }
    }
    let mut answers = String::new();
    for (token, code) in [(token.as_str(), " 200 "), (WRONG_TOKEN, " 401 ")] {
        for path in ["/status_count?start=0&end=9", "/metrics", "/status_count?start=no"] {
            let answer =
                get(process.http, path, &format!("host: localhost\r\nauthorization: Bearer {token}\r\n"));
            assert!(!path.ends_with('9') || answer.contains(code), "{answer}");
            answers += &answer;
        }
    }
    relay.stop();
    assert_absent(&secrets, &command_line(process.child.id()));
    // Its memory has some, and nothing writes that to a file when it dies.
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let said = process.said();
    assert!(said.contains("bad_user_name_or_password") || said.contains("password"), "{said}");
    assert_absent(&secrets, &said);
    assert_absent(&secrets, &answers);
}

#[test]
fn a_broker_that_refuses_us_has_our_password_and_no_line_of_the_log_has() {
    const REFUSED: [u8; 5] = [0x20, 3, 0, 0x86, 0];
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = rollcall("ingest", &format!("redb:{}", directory.path().join("data").display()));
    command.args(["--log", "trace", "--broker-user", "ingest"]).env("ROLLCALL_BROKER_PASSWORD", FLEET);
    command.arg("--broker").arg(format!("mqtt://{}", listener.local_addr().unwrap()));
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 256];
        let length = std::io::Read::read(&mut stream, &mut hello).unwrap();
        assert!(hello[..length].windows(FLEET.len()).any(|part| part == FLEET.as_bytes()));
        std::io::Write::write_all(&mut stream, &REFUSED).unwrap();
    }
    let secrets = [FLEET.to_owned()];
    assert_absent(&secrets, &command_line(child.id()));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("BadUserNamePassword") && said.contains("--broker-password-file"), "{said}");
    assert_absent(&secrets, &said);
}
