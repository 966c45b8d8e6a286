//! What a file of credentials says now: it is read again when it changes. A file that cannot be read, or makes no sense,
//! is reported once and changes nothing: what was read last stays in force.
//!
//! The file is looked at every [`LOOK_EVERY`], and read when it was the same at two looks: an editor that empties a file
//! before it fills it again must not shut everybody out in between.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::file::FileError;
use super::list::{Entry, List};
use crate::ops::{CredentialsFile, FileStamp, Ops};

/// A change is in force after two of these and the time to read it: within a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is kept of a file.
pub trait Kept: Send + Sync + Sized + 'static {
    /// A line of it.
    type Entry: Entry;

    /// What it is called in metrics and lines of log.
    const FILE: CredentialsFile;

    /// Takes from its lines what is needed.
    fn of(list: &List<Self::Entry>) -> Self;

    /// How many entries there are.
    fn entries(&self) -> usize;
}

/// What is in force now, for as many as want to know it.
#[derive(Debug)]
pub struct Live<T>(watch::Receiver<T>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Kept> Live<T> {
    /// Reads the file, and gives what reads it again once it is started.
    ///
    /// # Errors
    /// [`FileError`]: there is nothing yet that could stay in force.
    pub fn open(path: &Path) -> Result<(Self, Rereader<T>), FileError> {
        // Before it is read, so that a change meanwhile is seen as one.
        let read = FileStamp::of(path);
        let (sender, receiver) = watch::channel(T::of(&List::open(path)?));
        let path = path.to_owned();
        Ok((Self(receiver), Rereader { path, read, seen: read, reported: None, sender }))
    }

    /// What is in force. Not to be held on to: the next version waits for it.
    pub(crate) fn get(&self) -> watch::Ref<'_, T> {
        self.0.borrow()
    }

    /// Completes when the file was read again since this was asked last; never when nobody reads it any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Reads a file again when it changes, in a thread of its own.
#[derive(Debug)]
pub struct Rereader<T> {
    path: PathBuf,
    /// How the file was when it was read last, whatever came of it.
    read: Option<FileStamp>,
    /// How it was at the last look.
    seen: Option<FileStamp>,
    /// The error that was reported, as long as it lasts.
    reported: Option<String>,
    sender: watch::Sender<T>,
}

impl<T: Kept> Rereader<T> {
    /// Starts it. It ends when nobody is left who wants to know.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(mut self, ops: Arc<Ops>) -> io::Result<()> {
        ops.credentials_in_force(T::FILE, self.sender.borrow().entries());
        let work = move || {
            while !self.sender.is_closed() {
                self.look(&ops);
                thread::sleep(LOOK_EVERY);
            }
        };
        thread::Builder::new().name(T::FILE.name().into()).spawn(work)?;
        Ok(())
    }

    fn look(&mut self, ops: &Ops) {
        let now = FileStamp::of(&self.path);
        let stands_still = std::mem::replace(&mut self.seen, now) == now;
        if !stands_still || now == self.read && now.is_some() {
            return;
        }
        match List::open(&self.path) {
            // Changed while it was read: the next look but one reads it.
            Ok(_) if FileStamp::of(&self.path) != now => {}
            Ok(list) => {
                let new = T::of(&list);
                self.read = now;
                self.reported = None;
                ops.credentials_read(T::FILE, new.entries(), &self.path);
                self.sender.send_replace(new);
            }
            Err(error) => {
                // What cannot be read may be readable at the next look, although it is the same.
                self.read = now.filter(|_| !matches!(error, FileError::Unreadable { .. }));
                let error = error.to_string();
                if self.reported.as_ref() != Some(&error) {
                    ops.credentials_broken(T::FILE, &error);
                    self.reported = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Devices, SaltedHash};
    use super::*;

    const HASH: &str = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";

    struct Watched {
        _directory: tempfile::TempDir,
        path: PathBuf,
        live: Live<Devices>,
        rereader: Rereader<Devices>,
        ops: Ops,
    }

    impl Watched {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("devices");
            fs::write(&path, format!("porch {HASH}\n")).unwrap();
            let (live, rereader) = Live::open(&path).unwrap();
            Self { _directory: directory, path, live, rereader, ops: Ops::default() }
        }

        /// As often as it takes for a change to be seen.
        fn look(&mut self) {
            (0..3).for_each(|_| self.rereader.look(&self.ops));
        }

        fn knows(&self, name: &str) -> bool {
            self.live.get().knows(name)
        }

        fn metrics(&self) -> String {
            self.ops.metrics.text(true)
        }
    }

    #[test]
    fn a_change_is_in_force_once_the_file_stands_still() {
        let mut watched = Watched::new();
        fs::write(&watched.path, "").unwrap();
        watched.rereader.look(&watched.ops);
        assert!(watched.knows("porch"), "an editor may be about to fill it again");
        fs::write(&watched.path, format!("porch {HASH}\nattic {HASH}\n")).unwrap();
        watched.look();
        assert!(watched.knows("porch") && watched.knows("attic"));
        assert!(watched.metrics().contains("rollcall_credentials{file=\"devices\"} 2\n"));
        fs::write(&watched.path, "").unwrap();
        watched.look();
        assert!(!watched.knows("porch"), "a file that stays empty lets nobody in");
    }

    #[test]
    fn a_broken_file_changes_nothing_and_is_counted_until_it_is_whole() {
        let mut watched = Watched::new();
        let broken = |watched: &Watched| {
            watched.metrics().contains("rollcall_credentials_file_broken{file=\"devices\"} 1\n")
        };
        fs::write(&watched.path, format!("attic {HASH}\nporch secret\n")).unwrap();
        watched.look();
        assert!(watched.knows("porch") && !watched.knows("attic") && broken(&watched));
        let reported = watched.rereader.reported.clone().unwrap();
        assert!(reported.contains("line 2") && !reported.contains("secret"), "{reported}");
        fs::remove_file(&watched.path).unwrap();
        watched.look();
        assert!(watched.knows("porch") && broken(&watched));
        fs::write(&watched.path, format!("attic {HASH}\n")).unwrap();
        watched.look();
        assert!(!watched.knows("porch") && watched.knows("attic") && !broken(&watched));
        assert_eq!(watched.rereader.reported, None);
    }

    #[test]
    fn a_file_that_is_put_back_as_it_was_is_whole_again() {
        let mut watched = Watched::new();
        let aside = watched.path.with_extension("aside");
        fs::rename(&watched.path, &aside).unwrap();
        watched.look();
        assert!(watched.rereader.reported.is_some());
        fs::rename(&aside, &watched.path).unwrap();
        watched.look();
        assert!(watched.knows("porch") && watched.rereader.reported.is_none());
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_a_change() {
        let Watched { _directory, path, live, rereader, .. } = Watched::new();
        let (id, password) = live.get().admit(b"porch", b"test12").unwrap();
        rereader.start(Arc::default()).unwrap();
        fs::write(&path, format!("porch {}\n", SaltedHash::NOBODY)).unwrap();
        let mut waiting = live.clone();
        while live.get().has(&id, &password) {
            waiting.changed().await;
        }
    }

    #[test]
    fn there_is_no_server_without_a_file_that_makes_sense() {
        let watched = Watched::new();
        fs::write(&watched.path, "porch").unwrap();
        assert!(Live::<Devices>::open(&watched.path).is_err());
        assert!(Live::<Devices>::open(&watched.path.join("missing")).is_err());
    }
}
