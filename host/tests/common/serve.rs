//! The real process over free ports, which ends with its value.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A start that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is ready.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) mqtt: SocketAddr,
    pub(crate) http: SocketAddr,
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
    pub(crate) fn start_as(mut command: Command) -> Self {
        let mut child = command
            .args(["--mqtt-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut mqtt, mut http, mut seen) = (None, None, String::new());
        while mqtt.is_none() || http.is_none() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "rollcall did not start:\n{seen}");
            let address = |what| line.split_once(what).map(|(_, address)| address.trim().parse().unwrap());
            mqtt = mqtt.or_else(|| address("mqtt listening on "));
            http = http.or_else(|| address("http listening on "));
            seen += &line;
        }
        // So that it may go on to log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let process = Self { child, mqtt: mqtt.unwrap(), http: http.unwrap() };
        let deadline = Instant::now() + PATIENCE;
        while !process.get("/readyz").contains(" 200 ") {
            assert!(Instant::now() < deadline, "waited in vain for /readyz");
            thread::yield_now();
        }
        process
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
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
