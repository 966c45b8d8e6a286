//! The real process over free ports, which ends with its value.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A start that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is ready.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) mqtt: SocketAddr,
    pub(crate) http: SocketAddr,
    /// All that it listens on, by what is spoken there.
    listens: BTreeMap<String, SocketAddr>,
    /// Reads its log to the end, so that it may go on to log.
    log: Option<JoinHandle<String>>,
}

/// `rollcall` with a command for a store.
pub(crate) fn rollcall(command: &str, store: &str) -> Command {
    let mut rollcall = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    rollcall.args([command, "--store", store]);
    rollcall
}

impl Process {
    /// `rollcall serve` or `rollcall ingest`.
    pub(crate) fn start(command: &str, store: &str) -> Self {
        Self::start_as(rollcall(command, store))
    }

    /// A command that only lacks the flags for free ports.
    pub(crate) fn start_as(command: Command) -> Self {
        Self::start_listening(command, &["mqtt", "http"])
    }

    /// As the other, until it listens on all of these.
    pub(crate) fn start_listening(mut command: Command, wanted: &[&str]) -> Self {
        let mut child = command
            .args(["--mqtt-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut listens, mut said) = (BTreeMap::new(), String::new());
        while !wanted.iter().all(|name| listens.contains_key(*name)) {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "rollcall did not start:\n{said}");
            if let Some((before, address)) = line.split_once(" listening on ") {
                let name = before.rsplit(' ').next().unwrap().to_owned();
                listens.insert(name, address.trim().parse().unwrap());
            }
            said += &line;
        }
        let log = thread::spawn(move || {
            log.read_to_string(&mut said).unwrap();
            said
        });
        let (mqtt, http) = (listens["mqtt"], listens["http"]);
        let process = Self { child, mqtt, http, listens, log: Some(log) };
        let deadline = Instant::now() + PATIENCE;
        while !process.get("/readyz").contains(" 200 ") {
            assert!(Instant::now() < deadline, "waited in vain for /readyz");
            thread::yield_now();
        }
        process
    }

    /// Where it listens for what is called so in its log.
    pub(crate) fn listens(&self, name: &str) -> SocketAddr {
        self.listens[name]
    }

    /// Ends it; all that it said since its start.
    pub(crate) fn said(mut self) -> String {
        self.child.kill().unwrap();
        self.log.take().unwrap().join().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        get(self.http, path, "host: localhost\r\n")
    }

    /// Waits until a line stands in its metrics.
    pub(crate) fn until_metric(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.get("/metrics").contains(line) {
            assert!(Instant::now() < deadline, "waited in vain for {line}");
            thread::yield_now();
        }
    }
}

/// The answer to one request with these headers.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command said on standard output, and its exit status.
pub(crate) fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}
