//! A file of `/v1/messages`, or one like it, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::Context;
use rollcall_host::model::{End, LINE_MAX, Line, LineError, Record, RecordKind};

use super::bare::Bare;
use super::importer::Candidate;

/// The lines of a file.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// The names of its fields, if it is CSV.
    head: Option<Vec<String>>,
    is_first: bool,
    /// Did it say that it is complete, and that these were so many?
    is_complete: bool,
    bare: Bare,
}

impl Lines {
    /// Begins to read a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: &str) -> anyhow::Result<Self> {
        let reader: Box<dyn BufRead + Send> = if path == "-" {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::new(File::open(path).with_context(|| path.to_owned())?))
        };
        Ok(Self { reader, head: None, is_first: true, is_complete: false, bare: Bare::default() })
    }

    /// Does it end with the line that says that these are all?
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next record, which has an identity.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Candidate, LineError>>> {
        loop {
            let mut bytes = Vec::new();
            // One byte more than a line has shows that it is longer.
            self.reader.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() > LINE_MAX {
                self.reader.skip_until(b'\n')?;
                return Ok(Some(Err(LineError::TooLong)));
            }
            let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(Some(Err(LineError::NoObject))) };
            // A byte order mark, which spreadsheets write.
            let text = text.trim_start_matches('\u{feff}').trim();
            if let Some(line) = self.line(text) {
                return Ok(Some(line.and_then(|line| Ok(self.identified(Record::try_from(&line)?)))));
            }
        }
    }

    /// `None` where a line is no message and is not meant to be one.
    fn line(&mut self, text: &str) -> Option<Result<Line, LineError>> {
        if let Some(remark) = text.strip_prefix('#') {
            self.is_complete = remark.trim_start().starts_with("complete:");
            return None;
        }
        if text.is_empty() {
            return None;
        }
        let is_first = std::mem::take(&mut self.is_first);
        if is_first && !text.starts_with('{') {
            self.head = Some(text.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect());
            return None;
        }
        if let Some(head) = &self.head {
            let head: Vec<_> = head.iter().map(String::as_str).collect();
            return Some(Line::of_csv(&head, text));
        }
        if let Ok(end) = serde_json::from_str::<End>(text) {
            self.is_complete = end.complete;
            return None;
        }
        Some(serde_json::from_str(text).map_err(|_| LineError::NoObject))
    }

    fn identified(&mut self, record: Record) -> Candidate {
        if record.id.is_some() {
            // Another host may have made a document of what this one's log had without an identity.
            return Candidate { record, is_bare: record.kind == RecordKind::Imported };
        }
        let id = Some(self.bare.id(&record));
        // It is not a device's own any more: whoever counts a boot's samples must not meet it.
        let kind = if record.kind == RecordKind::Sample { RecordKind::Imported } else { record.kind };
        Candidate { record: Record { id, kind, ..record }, is_bare: true }
    }
}
