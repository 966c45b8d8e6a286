//! `cargo xtask demo`: everything from nothing on one machine, and the proof at the end that it adds up.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::fleet::{FleetProcess, FleetReport, FleetSettings};
use rollcall_harness::host::END_OF_TIME;
use rollcall_harness::signals::StopRequest;
use rollcall_harness::workspace;

use self::mischief::{Gang, Passwords};
use self::scoreboard::Scoreboard;
use crate::help;
use crate::stack::{self, BrokerChoice, Stack, StoreChoice};

mod mischief;
mod scoreboard;

pub(crate) const HELP: &str = "\
Builds and starts the host and simulated devices (and, if asked, RabbitMQ and MongoDB), shows the counts as they
grow, and checks at the end that every answer was counted exactly once.

  cargo xtask demo [--devices N] [--seconds N] [--period-ms N] [--broker gateway|rabbitmq]
                   [--store redb|mongodb] [--mischief]

  --devices N    how many devices (default 5)
  --seconds N    end after so many seconds (default: at Ctrl-C)
  --period-ms N  from one sample of a device to its next (default 1000)
  --broker B     where devices publish to: the host's own gateway (default), or a RabbitMQ 4
  --store S      where messages are stored: redb (default), or a MongoDB
  --mischief     with a few devices more that misbehave, so that the page shows every state; each device then has a
                 password of its own, which only the gateway knows

MQTT is at port 1883 and HTTP at 5000, or, where these are taken, at free ports that it names. The data is
in a temporary folder and is gone afterwards. The exit code is 0 when devices and host agree.

Examples:
  cargo xtask demo
  cargo xtask demo --mischief
  cargo xtask demo --devices 100 --period-ms 100 --seconds 30
  cargo xtask demo --broker rabbitmq --store mongodb
";

const DRAW_EVERY: Duration = Duration::from_secs(1);

/// How soon Ctrl-C is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Options {
    devices: u32,
    seconds: Option<u64>,
    period_ms: u32,
    broker: BrokerChoice,
    store: StoreChoice,
    mischief: bool,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let (broker, store) = stack::flags(&mut arguments)?;
    let options = Options {
        broker,
        store,
        mischief: arguments.contains("--mischief"),
        devices: arguments.opt_value_from_str("--devices")?.unwrap_or(5),
        seconds: arguments.opt_value_from_str("--seconds")?,
        period_ms: arguments.opt_value_from_str("--period-ms")?.unwrap_or(1000),
    };
    help::reject_unknown(arguments, HELP)?;
    ensure!(options.devices > 0, "--devices is at least 1");
    ensure!(options.period_ms > 0, "--period-ms is at least 1");
    ensure!(
        !options.mischief || options.broker == BrokerChoice::Gateway,
        "--mischief needs the host's own gateway, which knows the devices' passwords: leave out --broker"
    );

    let host_binary = Stack::build(options.store)?;
    let device_binary = cargo::build(Program::LinuxBoard, Profile::Dev)?;
    let stop = StopRequest::new()?;
    let dir = workspace::temporary_dir()?;
    let passwords = options.mischief.then(|| Passwords::issue(&host_binary, dir.path(), options.devices));
    let passwords = passwords.transpose()?;
    let devices_file = passwords.as_ref().map(|passwords| &*passwords.devices_file);
    let mut stack = Stack::start(&host_binary, dir.path(), options.broker, options.store, devices_file)?;
    introduce(&stack, &options, passwords.as_ref())?;
    let mut fleet = FleetProcess::start(&FleetSettings {
        binary: device_binary,
        logs: dir.path().to_owned(),
        broker: stack.host().broker(),
        devices: options.devices,
        period_ms: options.period_ms,
        seed: None,
        arguments: passwords.iter().flat_map(Passwords::arguments).collect(),
    })?;
    let period = Duration::from_millis(options.period_ms.into());
    let gang = passwords.map(|passwords| Gang::start(&stack.host().broker(), period, &passwords));
    let gang = gang.transpose()?;
    watch(&mut stack, &mut fleet, &stop, options.seconds.map(Duration::from_secs))?;

    println!("\ndevices stop and drain …");
    let misbehaved = gang.map(Gang::stop).transpose()?;
    let mut report = fleet.stop()?;
    report.acknowledged += misbehaved.unwrap_or_default();
    let counted = stack.counts_when(&report.acknowledged)?;
    stack.stop()?;
    Ok(compare(&report, &counted))
}

fn introduce(stack: &Stack, options: &Options, passwords: Option<&Passwords>) -> Result<()> {
    let host = stack.host();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let question = host.url(&format!("/status_count?start={now}&end={END_OF_TIME}"));
    let Options { devices, period_ms, .. } = options;
    println!("\nRollcall: {devices} devices, each with a sample every {period_ms} ms\n");
    println!("  look     {}", host.url("/"));
    println!("  ask      curl '{question}'");
    println!("  publish  mqtt://{} (MQTT 5 or 3.1.1)", host.broker());
    if let Some(passwords) = passwords {
        println!("           as one of {}", passwords.file.display());
    }
    for part in stack.parts() {
        println!("  look     {part}");
    }
    println!("  stop     Ctrl-C\n");
    Ok(())
}

/// Shows the counts until it is time to stop.
fn watch(
    stack: &mut Stack,
    fleet: &mut FleetProcess,
    stop: &StopRequest,
    limit: Option<Duration>,
) -> Result<()> {
    let start = Instant::now();
    let mut scoreboard = Scoreboard::new();
    let mut next_draw = start;
    while !stop.asked() && limit.is_none_or(|limit| start.elapsed() < limit) {
        stack.check_alive()?;
        fleet.check_alive()?;
        if Instant::now() >= next_draw {
            next_draw += DRAW_EVERY;
            scoreboard.show(start.elapsed(), stack.host().all_counts()?)?;
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Prints what devices and host say, and whether it is the same for every status.
fn compare(report: &FleetReport, counted: &StatusCounts) -> ExitCode {
    let acknowledged = &report.acknowledged;
    println!("devices: {} acknowledged  ({acknowledged})", acknowledged.total());
    println!("host:    {} counted       ({counted})", counted.total());
    if report.dropped > 0 {
        println!("{} samples were dropped by a full outbox before they were acknowledged", report.dropped);
    }
    if report.outbox > 0 {
        println!("{} samples are still in an outbox: the devices could not deliver them", report.outbox);
    }
    if acknowledged != counted {
        for (status, (acknowledged, counted)) in acknowledged.0.iter().zip(counted.0).enumerate() {
            if *acknowledged != counted {
                println!("status {status} differs: {acknowledged} acknowledged, {counted} counted");
            }
        }
        return ExitCode::FAILURE;
    }
    if report.outbox > 0 {
        return ExitCode::FAILURE;
    }
    println!("every answer counted exactly once");
    ExitCode::SUCCESS
}
