//! What other processes of this machine may ask of the process that has a store open, which is a backup, or to look at
//! the store: a socket in the data directory, for its owner and root alone.
//!
//! Lines each way: `backup PATH`, which begins with a slash, is answered by `progress ROWS OF` now and then, and at
//! last by `done ROWS` or `error REASON`. `check` is answered by `progress TEXT`, `check JSON` for each finding, and
//! `done`. One request at a time; others wait.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::RedbStore;
use super::backup::{BackupError, Progress};
use super::open::remove_if_there;
use crate::log::Recount;
use crate::ops::check::{Check, Report};

/// The socket within the data directory.
const SOCKET: &str = "rollcall.sock";

/// How long a client may take to say what it wants, and to take an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often is told how far a copy is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// The longest line, in bytes: a path has 4,096 at most, a finding some thousands.
const LINE_MAX: u64 = 65_536;

/// How many findings may wait to be told.
const REPORTS_WAITING: usize = 16;

/// Where descriptors are short, they are for what takes messages and answers: so many have to be left over.
const SPARE_DESCRIPTORS: usize = 8;

/// The pause after a connection could not be taken.
const RETRY: Duration = Duration::from_secs(1);

/// The socket while it is there; dropped, it is gone, and so is what was under way.
#[derive(Debug)]
pub struct LocalRequests {
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for LocalRequests {
    fn drop(&mut self) {
        self.task.abort();
        let _ = remove_if_there(&self.socket);
    }
}

impl RedbStore {
    /// Answers from now on, and looks at the store with `recount`. `None`, with a line in the log, when there can be no
    /// socket: the store works without.
    pub fn listen(&self, recount: Recount) -> Option<LocalRequests> {
        let socket = self.directory.join(SOCKET);
        match bind(&socket) {
            Ok((listener, owner)) => {
                let task = tokio::spawn(answer_all(self.clone(), recount, listener, owner));
                Some(LocalRequests { socket, task })
            }
            Err(error) => {
                let socket = socket.display();
                tracing::warn!(
                    "cannot listen on {socket}, so that rollcall backup and doctor need this process stopped: {error}"
                );
                None
            }
        }
    }
}

/// The listener, and whose it is.
fn bind(socket: &Path) -> io::Result<(UnixListener, u32)> {
    let spare: io::Result<Vec<_>> = (0..SPARE_DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    drop(spare?);
    // The store is open, and by one process only: what is there was left by one that was killed.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok((listener, fs::metadata(socket)?.uid()))
}

async fn answer_all(store: RedbStore, recount: Recount, listener: UnixListener, owner: u32) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Whoever came before the socket had its mode.
                if stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0) {
                    // A client that has gone has its answer.
                    let _ = answer(&store, recount, stream).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a local request");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn answer(store: &RedbStore, recount: Recount, stream: UnixStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let line = timeout(CLIENT_TIMEOUT, read_line(&mut stream)).await??;
    if line == b"check" {
        return check(store, recount, &mut stream).await;
    }
    // A relative path would be one of this process's working directory.
    let last = match line.strip_prefix(b"backup ") {
        Some(path) if path.starts_with(b"/") => match backup(store, &mut stream, path).await? {
            Ok(made) => format!("done {}", made.rows),
            Err(error) => format!("error {error}"),
        },
        _ => "error only backup /PATH and check are known".to_owned(),
    };
    write_line(&mut stream, &last).await
}

async fn backup(
    store: &RedbStore,
    stream: &mut BufReader<UnixStream>,
    path: &[u8],
) -> io::Result<Result<Progress, BackupError>> {
    let to = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
    tracing::info!("making a backup in {}", to.display());
    let (sender, progress) = watch::channel(Progress::default());
    let mut making = std::pin::pin!(store.backup(&to, sender));
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let made = loop {
        tokio::select! {
            made = &mut making => break made,
            _ = ticks.tick() => {
                let Progress { rows, of } = *progress.borrow();
                write_line(stream, &format!("progress {rows} {of}")).await?;
            }
        }
    };
    match &made {
        Ok(made) => tracing::info!(rows = made.rows, "the backup in {} is made", to.display()),
        Err(error) => tracing::warn!("no backup was made: {error}"),
    }
    Ok(made)
}

/// It ends when a line cannot be written.
async fn check(store: &RedbStore, recount: Recount, stream: &mut BufReader<UnixStream>) -> io::Result<()> {
    tracing::info!("looking at the store for rollcall doctor");
    let (sender, mut reports) = mpsc::channel(REPORTS_WAITING);
    let told = async {
        while let Some(report) = reports.recv().await {
            let line = match report {
                Report::Progress(text) => format!("progress {text}"),
                Report::Check(check) => format!("check {}", serde_json::to_string(&check)?),
            };
            write_line(stream, &line).await?;
        }
        write_line(stream, "done").await
    };
    tokio::pin!(told);
    tokio::select! {
        // It is not over before it is told, unless nobody listens.
        told = &mut told => told,
        () = store.checks(recount, sender) => told.await,
    }
}

/// A line without its end; an error when the peer has gone, or says too much.
async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(LINE_MAX).read_until(b'\n', &mut line).await?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn write_line(stream: &mut BufReader<UnixStream>, line: &str) -> io::Result<()> {
    let line = format!("{}\n", line.replace('\n', " "));
    timeout(CLIENT_TIMEOUT, stream.write_all(line.as_bytes())).await?
}

/// Lets the process that has the store in `directory` open make the backup; `None` when there is none.
pub(super) async fn request(
    directory: &Path,
    to: &Path,
    progress: &watch::Sender<Progress>,
) -> Option<Result<Progress, BackupError>> {
    match UnixStream::connect(directory.join(SOCKET)).await {
        Ok(stream) => Some(ask(BufReader::new(stream), to, progress).await),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Err(BackupError::Source(
            format!("its process takes requests of its own user only: {error}"),
        ))),
        // Nobody has it open, or who has will be found when we open it.
        Err(_) => None,
    }
}

async fn ask(
    mut stream: BufReader<UnixStream>,
    to: &Path,
    progress: &watch::Sender<Progress>,
) -> Result<Progress, BackupError> {
    let path = to.as_os_str().as_bytes();
    if path.contains(&b'\n') {
        return Err(BackupError::Destination(to.into(), "its name has a line break".to_owned()));
    }
    let request = [b"backup ", path, b"\n"].concat();
    stream.write_all(&request).await.map_err(|_| BackupError::Unanswered)?;
    loop {
        let line = read_line(&mut stream).await.map_err(|_| BackupError::Unanswered)?;
        let line = String::from_utf8_lossy(&line);
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
        match (word, numbers.as_slice()) {
            ("progress", &[rows, of]) => drop(progress.send_replace(Progress { rows, of })),
            ("done", &[rows]) => return Ok(Progress { rows, of: rows }),
            ("error", _) => return Err(BackupError::Refused(rest.to_owned())),
            _ => return Err(BackupError::Refused(format!("what is not understood here: {line}"))),
        }
    }
}

/// Lets the process that has the store in `directory` open look at it; false when there is none.
pub(super) async fn look(directory: &Path, reports: &mpsc::Sender<Report>) -> bool {
    let looked = match UnixStream::connect(directory.join(SOCKET)).await {
        Ok(stream) => ask_to_look(BufReader::new(stream), reports).await,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err((
            format!("the process that uses the store takes requests of its own user only: {error}"),
            "run rollcall doctor as that user",
        )),
        // Nobody has it open, or who has will be found when we open it.
        Err(_) => return false,
    };
    if let Err((found, remedy)) = looked {
        // Who does not listen any more needs no answer.
        let _ = reports.send(Report::Check(Check::fail("store", found, remedy))).await;
    }
    true
}

async fn ask_to_look(
    mut stream: BufReader<UnixStream>,
    reports: &mpsc::Sender<Report>,
) -> Result<(), (String, &'static str)> {
    let ended = |_: io::Error| {
        let found = "the rollcall that uses the store ended before all was looked at".to_owned();
        (found, "try again")
    };
    write_line(&mut stream, "check").await.map_err(ended)?;
    loop {
        let line = read_line(&mut stream).await.map_err(ended)?;
        let line = String::from_utf8_lossy(&line);
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let report = match word {
            "progress" => Report::Progress(rest.to_owned()),
            "check" if let Ok(check) = serde_json::from_str(rest) => Report::Check(check),
            "done" => return Ok(()),
            _ => {
                let found = format!("the rollcall that uses the store says: {line}");
                return Err((found, "use the same version of rollcall for both, or stop it and try again"));
            }
        };
        if reports.send(report).await.is_err() {
            return Ok(());
        }
    }
}
