//! What a process has used, as the kernel counts it: `/proc`, see proc(5).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
pub(super) use rollcall_harness::process::memory;

/// The processor time of a process, its threads' included.
pub(super) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, field 2, is in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let after_name = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks().context("no utime")?, ticks().context("no stime")?);
    Ok(Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The processor time of a process and of all that it has started and that still runs.
pub(super) fn cpu_time_of_tree(pid: u32) -> Result<Duration> {
    let mut sum = cpu_time(pid)?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        for child in children.split_whitespace() {
            sum += cpu_time_of_tree(child.parse()?)?;
        }
    }
    Ok(sum)
}

/// How many bytes a process has caused to be written to disks so far: pages of files that it made dirty, each time that
/// one was clean before, a journal's among them. One that is written twice between two flushes is written once.
pub(super) fn bytes_written(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(written.context("no write_bytes in /proc/PID/io")?.trim().parse()?)
}

/// What a folder's files take.
pub(super) struct DiskUse {
    /// The files' lengths, in bytes.
    pub(super) length: u64,
    /// The blocks that the file system has given them, in bytes.
    pub(super) allocated: u64,
}

/// What the files of `dir`, which holds no folders, take.
pub(super) fn disk(dir: &Path) -> Result<DiskUse> {
    let mut disk = DiskUse { length: 0, allocated: 0 };
    for file in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let metadata = file?.metadata()?;
        disk.length += metadata.len();
        // In units of 512 bytes whatever the file system's block size is: stat(2).
        disk.allocated += metadata.blocks() * 512;
    }
    Ok(disk)
}

/// The processor's name and how many cores this process may use.
pub(super) fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(format!("{cores} cores, {}", model.map_or("processor unknown", |(_, name)| name)))
}
