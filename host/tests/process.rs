//! The real process, and what its surroundings may do to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rollcall_harness::mqtt::{CONNACK, Client, PUBACK, Version};
use rollcall_wire::{DeviceId, Kind, Topic};

/// A start that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of a free port of this machine.
const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A `rollcall serve` that ends with this value.
struct Host(Child);

impl Host {
    fn start(data: &Path, mqtt: SocketAddr, http: SocketAddr, log: impl Into<Stdio>) -> Self {
        Self::start_with(&[], data, mqtt, http, log)
    }

    fn start_with(
        more: &[&str],
        data: &Path,
        mqtt: SocketAddr,
        http: SocketAddr,
        log: impl Into<Stdio>,
    ) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--mqtt-listen", &mqtt.to_string(), "--http-listen", &http.to_string()])
            .args(["--store", &format!("redb:{}", data.display())])
            .args(more)
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn assert_lives(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "the process has ended");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the log until it has told where MQTT and HTTP listen.
fn addresses(log: &mut BufReader<ChildStderr>) -> (SocketAddr, SocketAddr) {
    let (mqtt, http, _) = start_of(log);
    (mqtt, http)
}

/// The same, and what the log said until then.
fn start_of(log: &mut BufReader<ChildStderr>) -> (SocketAddr, SocketAddr, String) {
    let (mut mqtt, mut http, mut seen) = (None, None, String::new());
    loop {
        if let (Some(mqtt), Some(http)) = (mqtt, http) {
            return (mqtt, http, seen);
        }
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "rollcall did not start:\n{seen}");
        let address = |what| line.split_once(what).map(|(_, address)| address.trim().parse().unwrap());
        mqtt = mqtt.or_else(|| address("mqtt listening on "));
        http = http.or_else(|| address("http listening on "));
        seen += &line;
    }
}

/// A port that was free a moment ago, for a process that cannot tell which one it took.
fn free_address() -> SocketAddr {
    TcpListener::bind(FREE).unwrap().local_addr().unwrap()
}

/// The status of a GET, or `None` when nobody answers.
fn get(http: SocketAddr, path: &str) -> Option<u16> {
    ask(http, path)?.split(' ').nth(1)?.parse().ok()
}

/// The answer to a GET, or `None` when there is none.
fn ask(http: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(http).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Sends what is logged, and then what is to be stored; a host whose log is gone must do both.
fn assert_works(host: &mut Host, mqtt: SocketAddr, http: SocketAddr) {
    let topic = Topic { device: DeviceId::new("porch").unwrap(), kind: Kind::Status }.name();
    let mut client = Client::connect(mqtt, Version::V5);
    let refused = client.publish(&topic, b"nonsense").expect("no answer to a malformed message");
    assert_eq!(refused.kind(), PUBACK);
    assert_ne!(refused.reason(), 0);
    let taken = client.publish(&topic, br#"{"status":3}"#).expect("no answer to a good message");
    assert_eq!((taken.kind(), taken.reason()), (PUBACK, 0));
    assert_eq!(get(http, "/healthz"), Some(200));
    host.assert_lives();
}

#[test]
fn the_process_goes_on_when_the_reader_of_its_log_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let mut host = Host::start(data.path(), FREE, FREE, Stdio::piped());
    let mut log = BufReader::new(host.0.stderr.take().unwrap());
    let (mqtt, http) = addresses(&mut log);
    drop(log);
    assert_works(&mut host, mqtt, http);
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_starts_and_goes_on_when_the_disk_of_its_log_is_full() {
    let data = tempfile::tempdir().unwrap();
    let (mqtt, http) = (free_address(), free_address());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut host = Host::start(data.path(), mqtt, http, full);
    let deadline = Instant::now() + PATIENCE;
    while get(http, "/readyz") != Some(200) {
        host.assert_lives();
        assert!(Instant::now() < deadline, "waited in vain for the process to start");
        thread::yield_now();
    }
    assert_works(&mut host, mqtt, http);
}

#[test]
fn the_log_has_no_password_even_when_all_is_logged() {
    let data = tempfile::tempdir().unwrap();
    let password = data.path().join("password");
    fs::write(&password, "geheim").unwrap();
    let more = ["--log", "trace", "--mqtt-user", "fleet", "--mqtt-password-file", password.to_str().unwrap()];
    let mut host = Host::start_with(&more, data.path(), FREE, FREE, Stdio::piped());
    let mut log = BufReader::new(host.0.stderr.take().unwrap());
    let (mqtt, _) = addresses(&mut log);
    for (version, login) in [
        (Version::V311, "geheim"),
        (Version::V311, "geheimer"),
        (Version::V5, "geheimer"),
        (Version::V5, "geheim"),
    ] {
        let mut client = Client::hello(mqtt, version, "porch", Some(("fleet", login)));
        assert_eq!(client.receive().unwrap().kind(), CONNACK);
        // An AUTH packet, which the gateway does not know what to do with: its connection is ended.
        client.send(&[0xf0, 2, 0x18, 0]);
        while client.receive().is_some() {}
    }
    host.0.kill().unwrap();
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    assert!(!said.contains("geheim") && !said.contains(&format!("{:?}", b"geheim")), "{said}");
}

#[test]
fn the_log_names_a_directory_and_a_password_file_that_others_may_read() {
    let data = tempfile::tempdir().unwrap();
    let password = data.path().join("password");
    fs::write(&password, "geheim").unwrap();
    let more = ["--mqtt-user", "fleet", "--mqtt-password-file", password.to_str().unwrap()];
    let said = |directory_mode, password_mode| {
        fs::set_permissions(data.path(), fs::Permissions::from_mode(directory_mode)).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(password_mode)).unwrap();
        let mut host = Host::start_with(&more, data.path(), FREE, FREE, Stdio::piped());
        let mut log = BufReader::new(host.0.stderr.take().unwrap());
        start_of(&mut log).2
    };
    let said_of_open = said(0o750, 0o604);
    for path in [data.path(), &password] {
        let remedy = format!("chmod go= {}\n", path.display());
        assert_eq!(said_of_open.matches(&remedy).count(), 1, "{said_of_open}");
    }
    let said_of_closed = said(0o700, 0o600);
    assert!(!said_of_closed.contains("chmod"), "{said_of_closed}");
}

#[test]
fn doctor_makes_no_store_where_there_is_none() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("notes.txt"), "not a store").unwrap();
    let doctor = |directory: &Path| {
        let store = format!("redb:{}", directory.display());
        let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["doctor", "--store", &store])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let missing = data.path().join("missing");
    for directory in [data.path(), &missing] {
        let (code, said) = doctor(directory);
        assert_eq!(code, Some(0), "{said}");
        let none = format!("no store in {} yet; it is made at the first start", directory.display());
        assert!(said.contains(&none), "{said}");
    }
    assert!(!missing.exists());
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "a file was made");
    fs::write(data.path().join("rollcall.redb"), "").unwrap();
    let (code, said) = doctor(data.path());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("rollcall.redb is empty"), "{said}");
}

#[test]
fn a_command_whose_reader_is_gone_ends_without_a_panic_and_without_a_word() {
    let data = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", data.path().display());
    let run = |arguments: &[&str], output: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        let child = command.args(arguments).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer.into()
    };
    // As a shell shows a process that died of SIGPIPE.
    assert_eq!(run(&["doctor", "--store", &store], gone()), (Some(141), String::new()));
    let (code, said) = run(&["--help"], gone());
    assert!(code != Some(101) && said.is_empty(), "{code:?} {said}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_whose_output_cannot_be_written_says_so() {
    let data = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.args(["doctor", "--store", &format!("redb:{}", data.path().display())]).stdout(full);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output: No space left"), "{said}");
}

#[cfg(feature = "mongodb")]
#[test]
fn a_process_whose_store_is_away_at_its_start_answers_at_every_door_and_ends_when_asked() {
    let (mqtt, http) = (free_address(), free_address());
    let nobody = free_address();
    let mut host = Host(
        Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--mqtt-listen", &mqtt.to_string(), "--http-listen", &http.to_string()])
            .args(["--store", &format!("mongodb://{nobody}/rollcall")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let deadline = Instant::now() + PATIENCE;
    while get(http, "/healthz").is_none() {
        assert!(Instant::now() < deadline, "waited in vain for /healthz");
        thread::yield_now();
    }
    assert_eq!(get(http, "/readyz"), Some(503));
    assert_eq!(get(http, "/status_count?start=1&end=2"), Some(503));
    for (version, code) in [(Version::V5, 0x88), (Version::V311, 3)] {
        let connack = Client::hello(mqtt, version, "porch", None).receive().unwrap();
        assert_eq!((connack.kind(), connack.body[1]), (CONNACK, code));
    }
    host.assert_lives();
    let asked = Command::new("kill").arg(host.0.id().to_string()).status().unwrap();
    assert!(asked.success());
    assert!(host.0.wait().unwrap().success());
}

#[test]
fn when_descriptors_run_out_the_log_says_so_and_clients_are_taken_again_once_there_are_some() {
    let data = tempfile::tempdir().unwrap();
    let script = format!(
        "ulimit -n 64 && exec {} serve --mqtt-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --store redb:{}",
        env!("CARGO_BIN_EXE_rollcall"),
        data.path().display()
    );
    let mut host = Host(Command::new("sh").args(["-c", &script]).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(host.0.stderr.take().unwrap());
    let (mqtt, http) = addresses(&mut log);
    // A line that does not come must not be waited for without end.
    let (said, hears) = mpsc::channel::<()>();
    let pid = host.0.id().to_string();
    thread::spawn(move || {
        if hears.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(pid).status();
        }
    });
    let connections: Vec<_> = (0..60).map(|_| TcpStream::connect(mqtt).unwrap()).collect();
    let mut line = String::new();
    while !line.contains("cannot take an mqtt connection") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
    }
    assert!(line.contains("Too many open files"), "{line}");
    drop(said);
    drop(connections);
    assert_works(&mut host, mqtt, http);
    let metrics = ask(http, "/metrics").unwrap();
    let errors = metrics.split_once("\nrollcall_accept_errors_total ").unwrap().1.lines().next().unwrap();
    assert!(errors.parse::<u64>().unwrap() > 0, "{metrics}");
    assert_eq!(get(http, "/readyz"), Some(200));
}

#[test]
fn an_ingest_tells_over_http_how_it_is_when_it_is_asked_to_and_counts_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (mqtt, http) = (free_address(), free_address());
    let mut host = Host(
        Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["ingest", "--mqtt-listen", &mqtt.to_string(), "--http-listen", &http.to_string()])
            .args(["--store", &format!("redb:{}", data.path().display())])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let deadline = Instant::now() + PATIENCE;
    while get(http, "/readyz") != Some(200) {
        host.assert_lives();
        assert!(Instant::now() < deadline, "waited in vain for the process to start");
        thread::yield_now();
    }
    assert_works(&mut host, mqtt, http);
    assert!(ask(http, "/metrics").unwrap().contains("\nrollcall_messages_accepted_total 1\n"));
    assert_eq!(get(http, "/status_count?start=1&end=2"), Some(404));
}

#[test]
fn whatever_does_not_start_for_want_of_descriptors_a_process_that_says_it_is_ready_takes_messages() {
    let topic = Topic { device: DeviceId::new("porch").unwrap(), kind: Kind::Status }.name();
    let (mut ended, mut ready) = (0, 0);
    // From a process that cannot even start to one that has some to spare.
    for descriptors in (3..40).chain(60..68) {
        let data = tempfile::tempdir().unwrap();
        let (mqtt, http) = (free_address(), free_address());
        let script = format!(
            "ulimit -n {descriptors} && exec {} serve --mqtt-listen {mqtt} --http-listen {http} --store redb:{}",
            env!("CARGO_BIN_EXE_rollcall"),
            data.path().display()
        );
        let child = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap();
        let mut host = Host(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = host.0.try_wait().unwrap() {
                assert!(!status.success(), "{descriptors}: it ended as if all were well");
                ended += 1;
                break;
            }
            if get(http, "/readyz") == Some(200) {
                let mut client = Client::connect(mqtt, Version::V5);
                let taken = client.publish(&topic, br#"{"status":3}"#).expect("no answer to a good message");
                assert_eq!((taken.kind(), taken.reason()), (PUBACK, 0), "{descriptors}");
                ready += 1;
                break;
            }
            assert!(Instant::now() < deadline, "{descriptors}: neither ready nor ended");
            thread::yield_now();
        }
    }
    assert!(ended > 0 && ready > 0, "{ended} ended and {ready} were ready: all one or the other");
}
