//! A redb file as it stands: read only, and believed by redb to be whole.
//!
//! redb looks at every page of a file that was not closed cleanly before it opens it, and refuses all of it for one that is
//! damaged. Where only the log is to be read, of which each value has a checksum of ours, that is too much: so the file's
//! mark of that is not shown, and it is opened as beside a process that writes it, which looks at what it reads alone.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;

use redb::{BackendError, ConcurrencyMode, ReadOnlyDatabase, StorageBackend};

use super::WorkError;
use super::open::builder;

/// Where in a file of redb's the flags are (its `docs/design.md`: the magic number, then the "god byte"), and which one
/// says that it was not closed cleanly.
const FLAGS_OFFSET: u64 = 9;
const RECOVERY_REQUIRED: u8 = 2;

/// Opens it.
pub(super) fn open(file: File) -> Result<ReadOnlyDatabase, WorkError> {
    let mut builder = builder();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    Ok(builder.open_read_only_with_backend(AsIs(file))?)
}

#[derive(Debug)]
struct AsIs(File);

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it is opened to be read only"))
}

/// Whoever opens it has locked it.
impl StorageBackend for AsIs {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)?;
        let flags = FLAGS_OFFSET.checked_sub(offset).and_then(|at| out.get_mut(usize::try_from(at).ok()?));
        if let Some(flags) = flags {
            *flags &= !RECOVERY_REQUIRED;
        }
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        read_only()
    }

    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
