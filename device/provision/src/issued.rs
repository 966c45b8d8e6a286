//! What `rollcall devices issue` prints: a line `id,password` for each device. Read by those who hand it to a board.

use core::fmt;

use rollcall_wire::DeviceId;

use crate::Login;

/// The devices of `text` and what each logs in with, line by line; empty lines are passed over.
pub fn issued(text: &str) -> impl Iterator<Item = Result<(DeviceId, Login<'_>), BadLine>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| pair(line).ok_or(BadLine { line: at + 1 }))
}

fn pair(line: &str) -> Option<(DeviceId, Login<'_>)> {
    let (id, password) = line.split_once(',').filter(|(_, password)| !password.is_empty())?;
    Some((DeviceId::new(id).ok()?, Login::new(id, password.as_bytes()).ok()?))
}

/// A line that is not `id,password`. It is not quoted: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not id,password as rollcall devices issue prints it", self.line)
    }
}

impl core::error::Error for BadLine {}
