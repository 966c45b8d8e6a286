//! How quick the questions of the page are with 10,000 devices, and what those who look at it cost the ingest.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rollcall_harness::host::HostProcess;
use rollcall_harness::wait;
use serde_json::Value;

use super::fleet::Throughput;
use super::latency::{self, Latency};
use super::load::{FLEET, Load, Pace, Shape};
use super::table::{self, Target};
use super::{Fresh, usage};

/// 10,000 devices behind 50 connections.
const DEVICES: Shape = Shape { devices_each: 200, ..FLEET };

/// So many samples of each lie evenly over the last day.
const SAMPLES_EACH: u64 = 100;

const DAY_S: u64 = 24 * 3600;

/// Pages of `/v1/devices`.
const PAGE: usize = 100;

/// Who looks at the page, and how often other questions come meanwhile.
const READERS: usize = 100;
const QUESTIONS_A_SECOND: u32 = 50;

const ROWS_LIMIT: Duration = Duration::from_secs(120);

/// Measures both, each on a fresh store.
pub(super) fn measure(fresh: impl Fn() -> Result<Fresh>) -> Result<()> {
    devices(&fresh()?)?;
    readers(fresh)
}

fn print(what: &str, latency: Latency, target: Target) {
    table::print(&format!("{what}, p50"), latency.p50_ms, "ms", Target::None);
    table::print(&format!("{what}, p99"), latency.p99_ms, "ms", target);
}

fn devices(fresh: &Fresh) -> Result<()> {
    let (count, messages) = (
        DEVICES.connections * DEVICES.devices_each,
        DEVICES.connections as u64 * DEVICES.devices_each as u64 * SAMPLES_EACH,
    );
    table::heading(&format!(
        "questions about {} devices with 100 samples each in a day",
        table::number(count as f64)
    ));
    let host = HostProcess::start(&fresh.settings)?;
    let mut load = Load::connect(&host.broker(), DEVICES, 11)?;
    let age_ms = |nth: u64| (DAY_S * 1000 - DAY_S * 1000 * nth / messages) as u32;
    ensure!(load.run(Pace::Count(messages), age_ms)? == messages, "not everything was acknowledged");
    wait::until("the rows of the devices", ROWS_LIMIT, || {
        Ok((host.metric("rollcall_entries_beyond_rows")? < 16.0).then_some(()))
    })?;
    let (ids, pages) = listed(&host)?;
    ensure!(ids.len() == count, "{} devices are listed", ids.len());
    let mut random = fastrand::Rng::with_seed(11);
    let page = latency::measure(&host, || random.choice(&pages).cloned().unwrap_or_default())?;
    print("a page of 100 devices", page, Target::AtMost(5.0));
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 60 * 60;
    let of_device = latency::measure(&host, || {
        let (id, start) = (random.choice(&ids).map_or("", String::as_str), end - DAY_S);
        format!("/v1/counts?start={start}&end={end}&device={id}")
    })?;
    print("counts of a device and a day", of_device, Target::AtMost(5.0));
    let completeness = latency::measure(&host, || {
        let start = end - random.u64(3600..DAY_S);
        format!("/v1/counts?start={start}&end={}&completeness=true", start + 3600)
    })?;
    print("completeness of an hour", completeness, fresh.targets.completeness_p99_ms);
    if fresh.mongod.is_none() {
        let disk = usage::disk(&fresh.settings.data)?;
        table::print(
            "on disk a message, allocated",
            disk.allocated as f64 / messages as f64,
            "bytes",
            Target::None,
        );
    }
    host.stop()
}

/// All devices, and the question for each of their pages.
fn listed(host: &HostProcess) -> Result<(Vec<String>, Vec<String>)> {
    let asker = host.asker();
    let (mut ids, mut pages) = (Vec::new(), Vec::new());
    let mut path = format!("/v1/devices?limit={PAGE}");
    loop {
        let answer: Value = serde_json::from_str(&asker.ask(&path)?)?;
        let devices = answer["devices"].as_array().context("no devices")?;
        ids.extend(devices.iter().filter_map(|device| Some(device["device"].as_str()?.to_owned())));
        pages.push(path);
        let Some(next) = answer["next"].as_str() else { return Ok((ids, pages)) };
        path = format!("/v1/devices?limit={PAGE}&after={next}");
    }
}

/// What is stored a second, with readers and without.
fn readers(fresh: impl Fn() -> Result<Fresh>) -> Result<()> {
    table::heading("100 who look at the page, and 50 questions a second");
    let alone = Throughput::measure(&fresh()?, None)?.rate;
    let (stop, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let fresh = fresh()?;
    let port = fresh.settings.http_port;
    let watched = thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| read(port, &stop, &heard));
        }
        scope.spawn(|| ask(port, &stop));
        let measured = Throughput::measure(&fresh, None);
        stop.store(true, Ordering::Relaxed);
        measured
    })?;
    table::print("acknowledged messages a second, alone", alone, "", Target::None);
    table::print("acknowledged messages a second, watched", watched.rate, "", Target::None);
    table::print("times as many", watched.rate / alone, "", Target::AtLeast(0.9));
    let each = heard.load(Ordering::Relaxed) as f64 / READERS as f64;
    table::print("seconds that each heard of", each, "", Target::None);
    Ok(())
}

/// Reads `/v1/live` until it is to stop, or the host does.
fn read(port: u16, stop: &AtomicBool, heard: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            // It has not started yet.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if stream.write_all(b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n").is_err() {
            continue;
        }
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            heard.fetch_add(u64::from(line == "event: second"), Ordering::Relaxed);
        }
    }
}

/// Asks for counts and series in turn, at an even pace.
fn ask(port: u16, stop: &AtomicBool) {
    let start = Instant::now();
    for nth in 0.. {
        let due = start + Duration::from_secs(1) * nth / QUESTIONS_A_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = if nth % 2 == 0 {
            format!("/status_count?start={}&end={now}", now - 3600)
        } else {
            format!("/v1/series?start={}&end={now}&step=60", now - 3600)
        };
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        if write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").is_ok() {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    }
}
