//! A disk: what was written and not yet synced may be lost, torn or there before what was written earlier when the
//! power goes; it may be full, fail, and let bits flip.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use tokio::sync::Notify;

use crate::chance::Chance;
use crate::coverage::Kind;
use crate::scene::Scene;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How often a byte is looked for that is in use, to flip a bit of it.
const TRIES: u32 = 64;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// ENOSPC: nothing more can be written.
    Full,
    /// EIO: writes and syncs fail.
    Writes,
    /// EIO: all fails, also what is read.
    All,
    /// The power goes.
    Power,
}

/// What a failing disk has of what was written and not synced, once it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// All of it.
    Written,
    /// None.
    Synced,
}

/// Trouble that begins after so many more operations.
#[derive(Clone, Copy, Debug)]
struct Coming {
    operations: u64,
    trouble: Trouble,
    left: Left,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Disk {
    scene: Arc<Scene>,
    platter: Arc<Mutex<Platter>>,
}

struct Platter {
    /// What is read.
    bytes: Vec<u8>,
    /// What is there after the power was cut.
    synced: Vec<u8>,
    /// What leads from the one to the other.
    changes: Vec<Change>,
    chance: Chance,
    coming: Option<Coming>,
    trouble: Option<Trouble>,
    /// What the next opening finds, once something has failed.
    found: Option<Left>,
    /// Which mount may use it: those before belong to processes that are dead.
    mount: u64,
    has_flipped: bool,
}

enum Change {
    Write(usize, Box<[u8]>),
    Length(usize),
}

/// A disk as one process has it open.
#[derive(Clone)]
pub(crate) struct Mounted {
    disk: Disk,
    mount: u64,
    /// Hears that the power is gone.
    doom: Arc<Notify>,
}

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mount {}", self.mount)
    }
}

impl Disk {
    pub(crate) fn new(scene: Arc<Scene>, chance: Chance) -> Self {
        let platter = Platter {
            bytes: Vec::new(),
            synced: Vec::new(),
            changes: Vec::new(),
            chance,
            coming: None,
            trouble: None,
            found: None,
            mount: 0,
            has_flipped: false,
        };
        Self { scene, platter: Arc::new(Mutex::new(platter)) }
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it for a process that lives; what a failure left undone is decided now.
    pub(crate) fn open(&self, doom: Arc<Notify>) -> Mounted {
        let mut platter = self.lock();
        if platter.found.take() == Some(Left::Synced) {
            platter.bytes = platter.synced.clone();
            platter.changes.clear();
        }
        Mounted { disk: self.clone(), mount: platter.mount, doom }
    }

    /// The processes that have it open are dead: nothing they still do reaches it.
    pub(crate) fn forsake(&self) {
        self.lock().mount += 1;
    }

    /// The power is cut: of what was not synced, some sectors made it.
    pub(crate) fn lose_power(&self) {
        let mut platter = self.lock();
        platter.mount += 1;
        platter.settle();
        self.scene.note(format_args!("of what was not synced, this is there: {:x}", platter.hash()));
    }

    /// After so many more operations, there is trouble, until [`Disk::heal`].
    pub(crate) fn expect_trouble(&self, operations: u64, trouble: Trouble, left: Left) {
        self.lock().coming = Some(Coming { operations, trouble, left });
    }

    /// It works again.
    pub(crate) fn heal(&self) {
        let mut platter = self.lock();
        (platter.coming, platter.trouble) = (None, None);
    }

    /// Does all that is asked of it work, and will it?
    pub(crate) fn is_well(&self) -> bool {
        let platter = self.lock();
        platter.trouble.is_none() && platter.coming.is_none()
    }

    /// Does it fail now?
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble().is_some()
    }

    /// What is wrong now.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble
    }

    /// A bit flips, on the disk itself; false when nothing is on it.
    pub(crate) fn flip(&self) -> bool {
        let mut platter = self.lock();
        let Platter { bytes, synced, chance, .. } = &mut *platter;
        for _ in 0..TRIES {
            let at = chance.below(bytes.len() as u64) as usize;
            let sector = at / SECTOR * SECTOR;
            if bytes.get(sector..sector + SECTOR).is_some_and(|sector| sector.iter().any(|byte| *byte != 0)) {
                let mask = 1 << chance.below(8);
                bytes[at] ^= mask;
                if let Some(byte) = synced.get_mut(at) {
                    *byte ^= mask;
                }
                platter.has_flipped = true;
                self.scene.note(format_args!("flipped {mask:#x} at {at}"));
                return true;
            }
        }
        false
    }

    /// Did a bit flip?
    pub(crate) fn has_flipped(&self) -> bool {
        self.lock().has_flipped
    }
}

impl Platter {
    fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.synced, |_| true);
        }
    }

    /// Some of the changes are there, in whatever order, and some of those in part.
    fn settle(&mut self) {
        let percent = self.chance.pick(&[0, 10, 50, 90, 100]);
        for change in std::mem::take(&mut self.changes) {
            let percent = if self.chance.percent(80) { percent } else { 50 };
            let is_whole = self.chance.percent(50);
            let makes_it = self.chance.percent(percent);
            let chance = &mut self.chance;
            change.apply(&mut self.synced, |_| if is_whole { makes_it } else { chance.percent(percent) });
        }
        self.bytes = self.synced.clone();
    }

    fn hash(&self) -> u64 {
        self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl Change {
    /// Does it to an image, with those of its sectors that are `kept`.
    fn apply(&self, image: &mut Vec<u8>, mut kept: impl FnMut(usize) -> bool) {
        match self {
            Self::Length(length) => {
                if kept(0) {
                    image.resize(*length, 0);
                }
            }
            Self::Write(offset, bytes) => {
                let mut at = *offset;
                let end = at + bytes.len();
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if kept(at / SECTOR) {
                        // What lies beyond the end makes the file longer.
                        image.resize(image.len().max(next), 0);
                        image[at..next].copy_from_slice(&bytes[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
        }
    }
}

impl Mounted {
    /// A piece of work that may fail.
    fn operation<T>(&self, reads: bool, work: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        let mut platter = self.disk.lock();
        if platter.mount != self.mount {
            return Err(io::Error::other("the process is dead"));
        }
        if !reads && let Some(coming) = &mut platter.coming {
            match coming.operations.checked_sub(1) {
                Some(operations) => coming.operations = operations,
                None => {
                    let Coming { trouble, left, .. } = *coming;
                    platter.coming = None;
                    (platter.trouble, platter.found) = (Some(trouble), Some(left));
                    drop(platter);
                    self.begin(trouble);
                    platter = self.disk.lock();
                }
            }
        }
        match platter.trouble {
            Some(Trouble::Full) if !reads => Err(io::ErrorKind::StorageFull.into()),
            Some(Trouble::Writes) if !reads => Err(io::Error::other("injected")),
            Some(Trouble::All | Trouble::Power) => Err(io::Error::other("injected")),
            _ => work(&mut platter),
        }
    }

    fn begin(&self, trouble: Trouble) {
        let kind = match trouble {
            Trouble::Full => Kind::DiskFull,
            Trouble::Writes => Kind::WritesFail,
            Trouble::All => Kind::DiskFails,
            Trouble::Power => {
                self.doom.notify_one();
                Kind::PowerLossInWrite
            }
        };
        self.disk.scene.fired(kind);
    }
}

impl StorageBackend for Mounted {
    fn len(&self) -> io::Result<u64> {
        self.operation(true, |platter| Ok(platter.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.operation(true, |platter| {
            let start = offset as usize;
            let bytes = platter.bytes.get(start..start + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operation(false, |platter| {
            platter.bytes.resize(length as usize, 0);
            platter.changes.push(Change::Length(length as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operation(false, |platter| {
            platter.sync();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operation(false, |platter| {
            let change = Change::Write(offset as usize, data.into());
            change.apply(&mut platter.bytes, |_| true);
            platter.changes.push(change);
            Ok(())
        })
    }
}
