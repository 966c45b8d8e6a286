//! What a command answers on standard output, line by line. That nobody can read it, as in `… | head -1`, stops
//! no work that is under way, and ends the command without a panic.

use std::fmt::Display;
use std::io::{self, Write, stdout};

/// What a shell calls the end of a process by SIGPIPE, which Rust's programs ignore.
pub(crate) const READER_GONE: u8 = 128 + 13;

/// Why an answer was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// Nobody is there to hear of it.
    #[error("the reader of standard output is gone")]
    ReaderGone,
    /// As on a full disk.
    #[error("cannot write to standard output: {0}")]
    Failed(io::Error),
}

/// Standard output. After the first error it takes lines and writes none.
#[derive(Debug, Default)]
pub(crate) struct Output(Option<OutputError>);

impl Output {
    pub(crate) fn line(&mut self, text: impl Display) {
        if self.0.is_none() {
            self.0 = writeln!(stdout(), "{text}").err().map(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => OutputError::ReaderGone,
                _ => OutputError::Failed(error),
            });
        }
    }

    /// # Errors
    /// [`OutputError`] when a line was not written.
    pub(crate) fn end(self) -> Result<(), OutputError> {
        self.0.map_or(Ok(()), Err)
    }
}
