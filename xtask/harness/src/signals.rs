//! Ctrl-C and its like: ends what this process started, either at once or when the command has drained it.
//!
//! Children run in process groups of their own, so the terminal's Ctrl-C reaches this process alone, and it
//! decides. Unless a command asked for a [`StopRequest`], a signal kills every group and ends the process.

use std::collections::BTreeSet;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The exit code after a signal that was not waited for: 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static STOP_ASKED: AtomicBool = AtomicBool::new(false);
static STOP_AWAITED: AtomicBool = AtomicBool::new(false);
static LISTEN: Once = Once::new();

/// Says whether the person asked for the end. While one exists, the first signal only sets it; a second
/// signal kills.
pub struct StopRequest(());

impl StopRequest {
    /// From now on the first signal is the command's to act on.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn new() -> Result<Self> {
        listen()?;
        STOP_AWAITED.store(true, Ordering::SeqCst);
        Ok(Self(()))
    }

    /// True after the first signal.
    pub fn asked(&self) -> bool {
        STOP_ASKED.load(Ordering::SeqCst)
    }
}

impl Drop for StopRequest {
    fn drop(&mut self) {
        STOP_AWAITED.store(false, Ordering::SeqCst);
    }
}

/// The process groups to end. Held while a child is reaped, so that no signal goes to a process id that the
/// system has given to somebody else.
pub(crate) fn groups() -> MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that waits for signals; once a process.
///
/// # Errors
/// When the handlers cannot be set.
pub(crate) fn listen() -> Result<()> {
    let mut outcome = Ok(());
    LISTEN.call_once(|| outcome = start());
    outcome
}

fn start() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen to SIGINT, SIGTERM and SIGHUP")?;
    thread::spawn(move || {
        for _ in signals.forever() {
            let first = !STOP_ASKED.swap(true, Ordering::SeqCst);
            if !(first && STOP_AWAITED.load(Ordering::SeqCst)) {
                end_everything();
            }
        }
    });
    Ok(())
}

fn end_everything() -> ! {
    for group in groups().iter().filter_map(|group| Pid::from_raw(*group)) {
        // A group that has ended already is what we want.
        let _ = kill_process_group(group, Signal::KILL);
    }
    process::exit(INTERRUPTED);
}
