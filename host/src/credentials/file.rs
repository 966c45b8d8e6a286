//! A file of credentials on disk. One edit at a time, and a reader finds the file before it or after it, never half:
//! it is written beside and put in the place of the old one, with the same owner and mode; a new one is 0600.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::list::{Entry, List, ListError};

/// The longest file that is read, in bytes: some 300,000 devices that have two passwords each.
const BYTES_MAX: u64 = 128 * 1024 * 1024;

/// For its owner only.
const NEW_FILE_MODE: u32 = 0o600;

/// Why a file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or not for us.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Somebody has to look at a line.
    #[error("{}, {error}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// The line, and what is wrong with it.
        error: ListError,
    },
    /// It is longer than any that was meant.
    #[error("{} is longer than {BYTES_MAX} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// It stays as it was.
    #[error("cannot write {}: {error}; nothing in it has changed", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl<E: Entry> List<E> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        read_open(path, file)
    }
}

fn read_open<E: Entry>(path: &Path, file: File) -> Result<List<E>, FileError> {
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    List::read(&bytes).map_err(|error| FileError::Broken { path: path.to_owned(), error })
}

fn unreadable(path: &Path, error: io::Error) -> FileError {
    FileError::Unreadable { path: path.to_owned(), error }
}

/// A file that is being edited, and that nobody else edits meanwhile.
#[derive(Debug)]
pub struct Edit<E> {
    /// What it is to hold.
    pub list: List<E>,
    path: PathBuf,
    /// How the file was, if there was one.
    before: Option<Metadata>,
    /// Locked as long as it is open.
    directory: File,
}

impl<E: Entry> Edit<E> {
    /// Waits until nobody else edits the file, and reads it; one that is not there is empty.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        // Of a link, what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = File::open(directory_of(&path)).and_then(|directory| {
            directory.lock()?;
            Ok(directory)
        });
        let directory = directory.map_err(|error| unreadable(directory_of(&path), error))?;
        let (list, before) = match File::open(&path) {
            Ok(file) => {
                let before = file.metadata().map_err(|error| unreadable(&path, error))?;
                (read_open(&path, file)?, Some(before))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (List::default(), None),
            Err(error) => return Err(unreadable(&path, error)),
        };
        Ok(Self { list, path, before, directory })
    }

    /// Where the file is, as errors name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes everything to disk, but beside the file.
    ///
    /// # Errors
    /// [`FileError::Unwritable`].
    pub fn write(self) -> Result<Written, FileError> {
        let Self { list, path, before, directory } = self;
        let beside = path.with_file_name(beside_name(&path));
        let written = write_beside(&beside, list.text().as_bytes(), before.as_ref());
        // Also when it is not whole, it goes with this value.
        let new = Written { beside: Some(beside), path, directory };
        match written {
            Ok(()) => Ok(new),
            Err(error) => Err(new.unwritable(error)),
        }
    }
}

/// A new version of a file that is on disk and not in force yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Written {
    /// Where it is, until it is in its place.
    beside: Option<PathBuf>,
    path: PathBuf,
    directory: File,
}

impl Written {
    /// Puts it in the place of the old one.
    ///
    /// # Errors
    /// [`FileError::Unwritable`].
    pub fn put_in_place(mut self) -> Result<(), FileError> {
        if let Some(beside) = self.beside.take()
            && let Err(error) = fs::rename(&beside, &self.path)
        {
            self.beside = Some(beside);
            return Err(self.unwritable(error));
        }
        // The new name has to outlive a power failure too. It is in force whether or not that is known.
        let _ = self.directory.sync_all();
        Ok(())
    }

    fn unwritable(&self, error: io::Error) -> FileError {
        FileError::Unwritable { path: self.path.clone(), error }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = fs::remove_file(beside);
        }
    }
}

fn write_beside(beside: &Path, bytes: &[u8], before: Option<&Metadata>) -> io::Result<()> {
    // What an edit left that was killed; whoever edits holds the lock.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(NEW_FILE_MODE).open(beside)?;
    if let Some(before) = before {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            // The server that reads it may be another user than who edits it.
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(before.permissions().mode() & 0o777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn beside_name(path: &Path) -> std::ffi::OsString {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    name
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::thread;

    use super::super::{Device, Secret};
    use super::*;

    fn device(id: &str) -> Device {
        Device::new(id.parse().unwrap(), &Secret::random().unwrap()).unwrap()
    }

    fn add(path: &Path, id: &str) {
        let mut edit = Edit::<Device>::open(path).unwrap();
        edit.list.add(device(id)).unwrap();
        edit.write().unwrap().put_in_place().unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        List::<Device>::open(path).unwrap().entries().map(|device| device.name().to_owned()).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("devices");
        add(&path, "porch");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        add(&path, "attic");
        assert_eq!((mode(&path), names(&path)), (0o640, vec!["porch".to_owned(), "attic".to_owned()]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "something was left beside it");
    }

    #[test]
    fn what_is_not_put_in_place_changes_nothing_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("devices");
        add(&path, "porch");
        let before = fs::read(&path).unwrap();
        let mut edit = Edit::<Device>::open(&path).unwrap();
        edit.list.add(device("attic")).unwrap();
        drop(edit.write().unwrap());
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn edits_at_the_same_time_lose_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("devices");
        thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || (0..10).for_each(|number| add(path, &format!("sim-{writer}-{number}"))));
            }
        });
        assert_eq!(names(&path).len(), 40);
    }

    #[test]
    fn a_link_stays_one_and_what_an_edit_left_that_was_killed_is_in_no_ones_way() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("devices"), directory.path().join("link"));
        add(&path, "porch");
        symlink(&path, &link).unwrap();
        fs::write(directory.path().join(".devices.new"), "half a li").unwrap();
        add(&link, "attic");
        assert!(link.is_symlink());
        assert_eq!(names(&path), ["porch", "attic"]);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("devices");
        let error = List::<Device>::open(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        fs::write(&path, "# mine\nporch geheim\n").unwrap();
        let expected = format!("{}, line 2: ", path.display());
        for error in [List::<Device>::open(&path).unwrap_err(), Edit::<Device>::open(&path).unwrap_err()] {
            let error = error.to_string();
            assert!(error.starts_with(&expected) && !error.contains("geheim"), "{error}");
        }
        let nowhere = directory.path().join("missing/devices");
        let error = Edit::<Device>::open(&nowhere).unwrap_err().to_string();
        assert!(error.contains(&directory.path().join("missing").display().to_string()), "{error}");
    }
}
