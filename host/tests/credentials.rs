//! `rollcall devices` and `rollcall token`, and a `rollcall serve` that reads what they write.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/serve.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod serve;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{CONNACK, Client, DISCONNECT, Version};
use rollcall_wire::{DeviceId, Kind, Topic};

use self::serve::{Process, get};

/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file of credentials in a folder of its own.
struct Place {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("file"), directory }
    }

    /// Runs `rollcall` on it: its exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let flag = if arguments[0] == "token" { "--tokens-file" } else { "--devices-file" };
        let output = rollcall().args(arguments).arg(flag).arg(&self.path).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Runs it to a good end.
    fn succeed(&self, arguments: &[&str]) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}");
        output
    }

    /// Runs it to a bad end, after which the file is as it was.
    fn fail(&self, arguments: &[&str]) -> String {
        let before = fs::read(&self.path).ok();
        let (code, output, error) = self.run(arguments);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{arguments:?}: {error}");
        assert_eq!(fs::read(&self.path).ok(), before, "{arguments:?} changed the file");
        error
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

fn rollcall() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rollcall"))
}

/// Ids and passwords, as they were printed.
fn pairs(printed: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once(',').map(|(id, password)| (id.to_owned(), password.to_owned()));
    printed.lines().map(|line| pair(line).unwrap()).collect()
}

#[test]
fn passwords_are_printed_once_and_kept_as_hashes() {
    let place = Place::new();
    let issued = pairs(&place.succeed(&["devices", "issue", "porch", "attic"]));
    let more = pairs(&place.succeed(&["devices", "issue", "--count", "3", "--prefix", "sim"]));
    let names: Vec<_> = issued.iter().chain(&more).map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["porch", "attic", "sim-0", "sim-1", "sim-2"]);
    let text = place.text();
    for (id, password) in issued.iter().chain(&more) {
        assert_eq!(password.len(), 64, "{id}");
        assert!(!text.contains(password.as_str()), "{id}");
    }
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    place.succeed(&["devices", "rotate", "attic"]);
    let listed = place.succeed(&["devices", "list"]);
    assert_eq!(listed, "porch,1\nattic,2\nsim-0,1\nsim-1,1\nsim-2,1\n");
    place.succeed(&["devices", "revoke", "--previous", "attic"]);
    place.succeed(&["devices", "revoke", "sim-0", "sim-2"]);
    assert_eq!(place.succeed(&["devices", "list"]), "porch,1\nattic,1\nsim-1,1\n");
}

#[test]
fn what_makes_no_sense_changes_nothing_and_the_error_names_file_and_line() {
    let place = Place::new();
    let (name, password) = pairs(&place.succeed(&["devices", "issue", "porch"])).remove(0);
    assert_eq!(name, "porch");
    for (arguments, reasons) in [
        (&["devices", "issue", "attic", "porch"][..], &["line 1: porch is there already", "rotate"][..]),
        (&["devices", "issue", "--count", "2", "--prefix", "No Good"], &["--prefix No Good"]),
        (&["devices", "rotate", "porch", "attic"], &["attic is not in"]),
        (&["devices", "revoke", "porch", "attic"], &["attic is not in"]),
        (&["devices", "revoke", "--previous", "porch"], &["porch has one password only"]),
    ] {
        let error = place.fail(arguments);
        let path = place.path.display().to_string();
        assert!(reasons.iter().all(|reason| error.contains(reason)), "{arguments:?}: {error}");
        assert!(error.contains(&path) || error.contains("--prefix") || error.contains("only"), "{error}");
    }
    fs::write(&place.path, format!("# mine\nporch {password}\n")).unwrap();
    for arguments in
        [&["devices", "list"][..], &["devices", "issue", "attic"], &["devices", "export", "--rabbitmq"]]
    {
        let error = place.fail(arguments);
        assert!(error.contains(&format!("{}, line 2: ", place.path.display())), "{error}");
        assert!(!error.contains(&password), "{error}");
    }
    let output = rollcall().args(["serve", "--devices-file"]).arg(&place.path).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("line 2: "), "{error}");
    for arguments in [
        &["devices", "issue", "--devices-file", "f"][..],
        &["devices", "issue", "--devices-file", "f", "--count", "2"],
        &["devices", "issue", "--devices-file", "f", "--count", "2", "--prefix", "p", "id"],
        &["devices", "export", "--devices-file", "f"],
        &["devices", "export", "--devices-file", "f", "--rabbitmq", "--mosquitto", "m"],
    ] {
        assert_eq!(rollcall().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn passwords_that_nobody_could_read_are_not_let_in() {
    let place = Place::new();
    place.succeed(&["devices", "issue", "porch"]);
    let before = place.text();
    for arguments in [["issue", "attic"], ["rotate", "porch"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = rollcall();
        command.arg("devices").args(arguments).arg("--devices-file").arg(&place.path).stdout(writer);
        assert_eq!(command.status().unwrap().code(), Some(141));
        assert_eq!(place.text(), before);
        assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn brokers_get_files_in_their_own_words() {
    let place = Place::new();
    place.succeed(&["devices", "issue", "porch", "attic"]);
    let definitions = place.succeed(&["devices", "export", "--rabbitmq", "--vhost", "fleet"]);
    let definitions: serde_json::Value = serde_json::from_str(&definitions).unwrap();
    assert_eq!(definitions["users"].as_array().unwrap().len(), 2);
    assert_eq!(definitions["permissions"][1]["vhost"], "fleet");
    let directory = place.directory.path().join("for/mosquitto");
    place.succeed(&["devices", "export", "--mosquitto", directory.to_str().unwrap()]);
    let file = |name| {
        let path = directory.join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        fs::read_to_string(path).unwrap()
    };
    let passwords = file("passwords");
    let users: Vec<_> = passwords.lines().map(|line| line.split_once(":$7$1$").unwrap().0).collect();
    assert_eq!(users, ["porch", "attic"]);
    assert!(file("acl").contains("pattern write rollcall/+/%u/status\n"));
}

/// A `rollcall serve` that logs all that it can.
fn start(data: &Path, more: &[&str]) -> Process {
    let mut command = rollcall();
    command.args(["serve", "--log", "trace", "--store", &format!("redb:{}", data.display())]).args(more);
    Process::start_as(command)
}

fn status(host: &Process, path: &str, headers: &str) -> u16 {
    get(host.http, path, headers).split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_was_issued_is_let_in_and_what_was_revoked_is_cut_off_and_the_log_tells_no_secret() {
    let (devices, data) = (Place::new(), tempfile::tempdir().unwrap());
    let issued = pairs(&devices.succeed(&["devices", "issue", "porch", "attic"]));
    let [porch, attic] = &issued[..] else { panic!("{}", issued.len()) };
    let host = start(data.path(), &["--devices-file", devices.path.to_str().unwrap()]);
    let login = |user: &str, password: &str| {
        let mut client = Client::hello(host.mqtt, Version::V5, user, Some((user, password)));
        let connack = client.receive().unwrap();
        assert_eq!(connack.kind(), CONNACK);
        (connack.body[1] == 0).then_some(client)
    };
    let topic = |device: &str| {
        Topic { device: DeviceId::new(device).unwrap(), kind: Kind::Status }.name().to_string()
    };
    let mut client = login("porch", &porch.1).unwrap();
    assert_eq!(client.publish(&topic("porch"), br#"{"status":3}"#).unwrap().reason(), 0);
    assert_eq!(client.publish(&topic("attic"), br#"{"status":3}"#).unwrap().reason(), 0x87);
    assert!(login("attic", &porch.1).is_none());
    devices.succeed(&["devices", "revoke", "porch"]);
    let disconnect = client.receive().unwrap();
    assert_eq!((disconnect.kind(), disconnect.reason()), (DISCONNECT, 0x87));
    assert!(login("porch", &porch.1).is_none() && login("attic", &attic.1).is_some());
    let metrics = host.get("/metrics");
    assert!(metrics.contains("\nrollcall_credentials{file=\"devices\"} 1\n"), "{metrics}");
    let said = host.said();
    assert!(said.contains("other_devices_topic") && said.contains("password_revoked"), "{said}");
    for (_, password) in &issued {
        assert!(!said.contains(password.as_str()), "the log has a password");
    }
}

#[test]
fn http_asks_for_a_token_and_for_its_own_name() {
    let (tokens, data) = (Place::new(), tempfile::tempdir().unwrap());
    let token = tokens.succeed(&["token", "create", "page", "--role", "read"]);
    let token = token.trim();
    assert!(token.starts_with("page.") && !tokens.text().contains(&token["page.".len()..]));
    assert!(
        tokens
            .fail(&["token", "create", "page", "--role", "admin"])
            .contains("line 1: page is there already")
    );
    tokens.succeed(&["token", "create", "ops", "--role", "admin"]);
    assert_eq!(tokens.succeed(&["token", "list"]), "page,read\nops,admin\n");
    fs::set_permissions(&tokens.path, Permissions::from_mode(0o644)).unwrap();
    let more = ["--tokens-file", tokens.path.to_str().unwrap(), "--http-name", "rollcall.example"];
    let host = start(data.path(), &more);
    let authorization = format!("authorization: Bearer {token}\r\n");
    let named = |name: &str| format!("host: {name}\r\n{authorization}");
    assert_eq!(status(&host, "/metrics", "host: localhost\r\n"), 401);
    assert_eq!(status(&host, "/metrics", &named("127.0.0.1:5000")), 200);
    assert_eq!(status(&host, "/metrics", &named("Rollcall.Example")), 200);
    assert_eq!(status(&host, "/metrics", &named("evil.example")), 421);
    assert_eq!(status(&host, "/metrics", &authorization), 400);
    assert_eq!(status(&host, "/healthz", "host: 192.0.2.1\r\n"), 200);
    tokens.succeed(&["token", "revoke", "page"]);
    let deadline = Instant::now() + PATIENCE;
    while status(&host, "/metrics", &named("localhost")) == 200 {
        assert!(Instant::now() < deadline, "a token that was revoked is good for ever");
    }
    assert!(tokens.fail(&["token", "revoke", "page"]).contains("page is not in"));
    let said = host.said();
    assert!(said.contains("reason=\"no_token\"") && said.contains("client=127.0.0.1:"), "{said}");
    assert!(!said.contains(&token["page.".len()..]), "the log has a token");
}
