//! A child process in its own process group, with its output in files.
//!
//! Guarantees: dropped, it and its group have ended; so have they after a panic or a signal to this process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::signals;
use crate::wait;

/// How many of a log's last lines a message shows.
const TAIL_LINES: usize = 20;

/// Resident memory now and at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// At this moment.
    pub now: u64,
    /// Since the process began.
    pub most: u64,
}

/// A running child.
pub struct Process {
    name: &'static str,
    child: Child,
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its output is added to `<logs>/<name>.out` and `<logs>/<name>.err`.
    ///
    /// # Errors
    /// When it cannot be started or the files cannot be opened.
    pub fn start(name: &'static str, command: Command, logs: &Path) -> Result<Self> {
        Self::spawn(name, command, logs, Stdio::null())
    }

    /// As [`Process::start`], with a pipe to its stdin.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_with_input(name: &'static str, command: Command, logs: &Path) -> Result<(Self, ChildStdin)> {
        let mut process = Self::spawn(name, command, logs, Stdio::piped())?;
        let stdin = process.child.stdin.take().with_context(|| format!("{name} has no stdin"))?;
        Ok((process, stdin))
    }

    fn spawn(name: &'static str, mut command: Command, logs: &Path, stdin: Stdio) -> Result<Self> {
        signals::listen()?;
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        command.stdin(stdin).stdout(append_to(&stdout)?).stderr(append_to(&stderr)?).process_group(0);
        let mut groups = signals::groups();
        let child =
            command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let pid = Pid::from_child(&child);
        groups.insert(pid.as_raw_pid());
        drop(groups);
        Ok(Self { name, child, pid, stdout, stderr })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read(&self.stdout)
    }

    /// What it has written to stderr so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        read(&self.stderr)
    }

    /// Sends a signal to the process itself.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("{} is no longer there to signal", self.name))
    }

    /// Sends a signal to the process and to its descendants.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        kill_process_group(self.pid, signal)
            .with_context(|| format!("{} is no longer there to signal", self.name))
    }

    /// The exit status, when it has ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let mut groups = signals::groups();
        let status = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        if status.is_some() {
            groups.remove(&self.pid.as_raw_pid());
        }
        Ok(status)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it has not ended after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || self.ended()).with_context(|| self.last_words())
    }

    /// Fails with the child's last log lines when it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended unasked ({status})\n{}", self.name, self.last_words()),
        }
    }

    /// `kill -9` for the whole group, and waits for the end.
    pub fn kill(&mut self) {
        let mut groups = signals::groups();
        if !groups.remove(&self.pid.as_raw_pid()) {
            return;
        }
        // Not reaped yet, so the id is still its own; failing means that it has just ended.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }

    /// The last lines of its log, for a message.
    pub fn last_words(&self) -> String {
        let log = self.stderr().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if tail.is_empty() {
            return format!("{} logged nothing", self.name);
        }
        format!("the last lines that {} logged:\n    {}", self.name, tail.join("\n    "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The memory of a process, as the kernel counts it: proc(5).
///
/// # Errors
/// When it has ended.
pub fn memory(pid: u32) -> Result<MemoryUse> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("no {name} in /proc/PID/status"))? * 1024)
    };
    Ok(MemoryUse { now: field("VmRSS:")?, most: field("VmHWM:")? })
}

fn append_to(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
