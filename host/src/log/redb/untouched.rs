//! A store's file that is opened and left as it is: what redb writes to it, as when it repairs it, stays in memory.
//! It is locked as by any other who opens it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const PAGE_BYTES: usize = 4096;

/// The most that is written in memory: redb's account of a file's pages, of some terabytes.
const PAGES_MAX: usize = (256 << 20) / PAGE_BYTES;

/// See the module.
#[derive(Debug)]
pub(super) struct Untouched {
    file: FileBackend,
    written: Mutex<Written>,
}

/// What the file would be.
#[derive(Debug)]
struct Written {
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
    length: u64,
    /// Of the file, no more than this: it was cut off there.
    in_file: u64,
}

impl Untouched {
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        // No exclusive lock without the right to write.
        let file = File::options().read(true).write(true).open(file)?;
        let length = file.metadata()?.len();
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        let written = Written { pages: BTreeMap::new(), length, in_file: length };
        Ok(Self { file, written: Mutex::new(written) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the file has of it, and zeros for the rest.
    fn read_file(&self, in_file: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(in_file.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { self.file.read(offset, there) }
    }
}

/// The pages that a piece touches: each page's number, where the piece begins in it, and which part of the piece it
/// has.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let begin = (at % PAGE_BYTES as u64) as usize;
        let part = done..length.min(done + PAGE_BYTES - begin);
        done = part.end;
        (!part.is_empty()).then_some((at / PAGE_BYTES as u64, begin, part))
    })
}

impl StorageBackend for Untouched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(written.in_file, offset, out)?;
        let last = (offset + out.len() as u64) / PAGE_BYTES as u64;
        if written.pages.range(offset / PAGE_BYTES as u64..=last).next().is_some() {
            for (page, begin, part) in pages(offset, out.len()) {
                if let Some(page) = written.pages.get(&page) {
                    let end = begin + part.len();
                    out[part].copy_from_slice(&page[begin..end]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written();
        // What is beyond the end is zeros if it grows again.
        written.in_file = written.in_file.min(length);
        written.pages.retain(|page, _| page * (PAGE_BYTES as u64) < length);
        if let Some(mut page) = written.pages.last_entry() {
            let begin = usize::try_from(length - page.key() * PAGE_BYTES as u64).unwrap_or(PAGE_BYTES);
            page.get_mut()[begin.min(PAGE_BYTES)..].fill(0);
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (page, begin, part) in pages(offset, data.len()) {
            if !written.pages.contains_key(&page) {
                if written.pages.len() == PAGES_MAX {
                    return Err(io::Error::other("looking at the file takes too much memory"));
                }
                let mut bytes = Box::new([0; PAGE_BYTES]);
                self.read_file(written.in_file, page * PAGE_BYTES as u64, bytes.as_mut_slice())?;
                written.pages.insert(page, bytes);
            }
            if let Some(page) = written.pages.get_mut(&page) {
                page[begin..begin + part.len()].copy_from_slice(&data[part]);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, Vec<u8>),
        SetLength(usize),
        Read(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = 0..20_000_usize;
        prop_oneof![
            (place.clone(), prop::collection::vec(any::<u8>(), 0..9000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            place.clone().prop_map(Step::SetLength),
            (place.clone(), place).prop_map(|(at, length)| Step::Read(at, length)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_reads_as_if_all_were_written_and_the_file_stays_as_it_is(
            steps in prop::collection::vec(step(), 1..20), length in 0..20_000_usize,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            let before: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            fs::write(&path, &before).unwrap();
            let untouched = Untouched::open(&path).unwrap();
            let mut expected = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let data = &data[..data.len().min(expected.len().saturating_sub(at))];
                        untouched.write(at as u64, data).unwrap();
                        if !data.is_empty() {
                            expected[at..at + data.len()].copy_from_slice(data);
                        }
                    }
                    Step::SetLength(length) => {
                        untouched.set_len(length as u64).unwrap();
                        expected.resize(length, 0);
                    }
                    Step::Read(at, length) => {
                        let mut read = vec![1; length];
                        match untouched.read(at as u64, &mut read) {
                            Ok(()) => prop_assert_eq!(&read, &expected[at..at + length]),
                            Err(_) => prop_assert!(at + length > expected.len()),
                        }
                    }
                }
                prop_assert_eq!(untouched.len().unwrap(), expected.len() as u64);
            }
            let mut all = vec![1; expected.len()];
            untouched.read(0, &mut all).unwrap();
            prop_assert_eq!(all, expected);
            prop_assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}
