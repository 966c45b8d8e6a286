//! What happened, line by line. All of it goes into a hash, by which two runs are compared; the lines themselves are
//! kept only when somebody wants to read them.

use std::fmt;

use crate::time::now_ms;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    lines: u64,
    kept: Option<Vec<String>>,
}

/// FNV-1a over 64 bits.
#[derive(Debug)]
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// An empty one.
    pub(crate) fn new(keep: bool) -> Self {
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), lines: 0, kept: keep.then(Vec::new) }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, what: fmt::Arguments<'_>) {
        self.lines += 1;
        let now = now_ms();
        match &mut self.kept {
            None => write(&mut self.hash, now, what),
            Some(kept) => {
                let mut line = String::new();
                write(&mut line, now, what);
                write_text(&mut self.hash, &line);
                kept.push(line);
            }
        }
    }

    /// The hash of all lines.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// How many there were.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The lines, if they were kept.
    pub(crate) fn take(&mut self) -> Vec<String> {
        self.kept.take().unwrap_or_default()
    }
}

fn write(out: &mut impl fmt::Write, now: u64, what: fmt::Arguments<'_>) {
    // Neither a hash nor a string refuses text.
    let _ = writeln!(out, "{:>4}.{:03} {what}", now / 1000, now % 1000);
}

fn write_text(out: &mut impl fmt::Write, text: &str) {
    let _ = out.write_str(text);
}
