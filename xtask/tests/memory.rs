//! What clients can make the host hold while each sync of its disk takes a second: at most 200 MB, and it is given
//! back. The host is a real process, whose memory the kernel counts.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::{HostProcess, HostSettings};
use rollcall_harness::mqtt::{self, ConnectPacket, PublishPacket, Version};
use rollcall_harness::process::memory;
use rollcall_harness::{skip, tools, wait, workspace};
use rollcall_wire::codec::PAYLOAD_MAX;
use rollcall_wire::{DeviceId, Kind, Topic};
use rustix::process::{Resource, getrlimit, setrlimit};

const MB: u64 = 1_000_000;

const MEMORY_MAX: u64 = 200 * MB;

/// What is left when the clients have gone: the store's cache, what is known of a thousand devices, and what the allocator
/// keeps, with which it may never have been more (59 to 61 MB where topics and payloads are long).
const LEFT_MAX: u64 = 80 * MB;

const SYNC: Duration = Duration::from_secs(1);

/// So long the clients go on: the host stores a few times, and takes what it takes.
const FLOOD: Duration = Duration::from_secs(8);

/// How long the host may need for the first messages.
const FIRST_LIMIT: Duration = Duration::from_secs(90);

/// How long the clients' last messages may take to be stored.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(60);

/// How long the handshakes may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// With all that MQTT needs around it, just what the gateway reads.
const LONG: usize = 7_900;

/// How many topics of a client of MQTT 5 the gateway remembers.
const ALIASES: u64 = 32;

/// What each client sends.
#[derive(Clone, Copy)]
struct Flood {
    version: Version,
    clients: usize,
    messages: u64,
    /// So many of each client the host takes before any sends more.
    first: u64,
    /// Writes message `number` of a client.
    packet: fn(client: usize, number: u64, out: &mut Vec<u8>),
}

#[test]
fn a_thousand_clients_with_all_in_flight_that_they_may_have() -> Result<()> {
    withstand(
        "bound in flight",
        Flood { version: Version::V5, clients: 1_000, messages: 256, first: 0, packet: sample_v5 },
    )
}

#[test]
fn clients_of_3_1_1_that_send_20_000_messages_without_waiting() -> Result<()> {
    let flood =
        Flood { version: Version::V311, clients: 50, messages: 20_000, first: 0, packet: sample_v311 };
    withstand("3.1.1 without waiting", flood)
}

#[test]
fn a_thousand_clients_whose_topics_and_payloads_are_as_long_as_the_gateway_reads() -> Result<()> {
    let flood =
        Flood { version: Version::V5, clients: 1_000, messages: 20_000, first: ALIASES, packet: long };
    withstand("long topics and payloads", flood)
}

fn sample_v5(client: usize, number: u64, out: &mut Vec<u8>) {
    sample(Version::V5, client, number, out);
}

fn sample_v311(client: usize, number: u64, out: &mut Vec<u8>) {
    sample(Version::V311, client, number, out);
}

/// A sample of QoS 1, as long as it may be.
fn sample(version: Version, client: usize, number: u64, out: &mut Vec<u8>) {
    let mut payload = format!(r#"{{"status":3,"seq":{number},"boot":"9f3c5a0be1d24c77"}}"#).into_bytes();
    payload.resize(PAYLOAD_MAX, b' ');
    let id = Some((number % 1_000) as u16 + 1);
    let topic = &topic(client);
    PublishPacket { first: 0x32, id, topic, properties: &[], payload: &payload }.encode_to(version, out);
}

/// First long topics that are to be remembered; then each time a sample to be stored, so that what follows waits for
/// it, and a long payload. All of QoS 0: nobody waits for answers.
fn long(client: usize, number: u64, out: &mut Vec<u8>) {
    let bare = PublishPacket {
        first: 0x30,
        id: None,
        topic: &topic(client),
        properties: &[],
        payload: br#"{"status":3}"#,
    };
    if number < ALIASES {
        let topic = &"x".repeat(LONG);
        let alias = [0x23, 0, number as u8 + 1];
        PublishPacket { topic, properties: &alias, ..bare }.encode_to(Version::V5, out);
    } else {
        bare.encode_to(Version::V5, out);
        PublishPacket { payload: &[b' '; LONG], ..bare }.encode_to(Version::V5, out);
    }
}

fn topic(client: usize) -> String {
    let device = DeviceId::new(&format!("device-{client}")).expect("a device id");
    Topic { device, kind: Kind::Status }.to_string()
}

fn withstand(name: &str, flood: Flood) -> Result<()> {
    let strace = match tools::strace() {
        Ok(strace) => strace,
        Err(reason) => return skip::report(&format!("memory, {name}"), &format!("{reason:#}")),
    };
    allow_open_files(flood.clients)?;
    let dir = workspace::temporary_dir()?;
    let mut settings = HostSettings::new(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    settings.slow_disk = Some((strace, SYNC));
    let mut host = HostProcess::start(&settings)?;
    let pid = host.process().pid();
    let idle = memory(pid)?.now;
    let clients = (0..flood.clients).map(|number| Client::connect(&host.broker(), flood, number));
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    let first = Flood { messages: flood.first, ..flood };
    let all = (flood.first * clients.len() as u64) as f64;
    wait::until("the host to take the first messages", FIRST_LIMIT, || {
        go_on(&mut clients, first)?;
        Ok((host.metric("rollcall_messages_received_total")? >= all).then_some(()))
    })?;
    let end = Instant::now() + FLOOD;
    while Instant::now() < end {
        if !go_on(&mut clients, flood)? {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let most = memory(pid)?.most;
    let (sent, received) =
        clients.iter().fold((0, 0), |sum, client| (sum.0 + client.sent, sum.1 + client.received));
    drop(clients);
    host.check_alive()?;
    let left = wait::until("the host to give back what it held", GIVE_BACK_LIMIT, || {
        let now = memory(pid)?.now;
        Ok((now <= LEFT_MAX).then_some(now))
    });
    let mb = |bytes: u64| bytes / MB;
    println!("{name}: {} MB sent; MB resident: idle {}, at most {}", mb(sent), mb(idle), mb(most));
    println!("{name}: left {:?} MB of at most {}", left.as_ref().map(|left| mb(*left)).ok(), mb(LEFT_MAX));
    ensure!(most <= MEMORY_MAX, "{} MB resident", mb(most));
    left?;
    ensure!(sent > MEMORY_MAX / 4, "only {} MB were sent: this tests nothing", mb(sent));
    ensure!(flood.version == Version::V5 || received > 0, "nothing was stored");
    host.kill();
    Ok(())
}

/// Lets each client send and read what it can at once; was it anything?
fn go_on(clients: &mut [Client], flood: Flood) -> Result<bool> {
    clients.iter_mut().try_fold(false, |any, client| Ok(client.go_on(flood)? || any))
}

/// A connection that sends as much as is taken from it, and reads what comes.
struct Client {
    number: usize,
    stream: TcpStream,
    /// How many messages were encoded.
    messages: u64,
    packets: Vec<u8>,
    at: usize,
    sent: u64,
    received: u64,
}

impl Client {
    fn connect(broker: &str, flood: Flood, number: usize) -> Result<Self> {
        let mut connection = mqtt::Connection::open(broker, CONNECT_LIMIT)?;
        let id = format!("client-{number}");
        connection.connect(&ConnectPacket { keep_alive_s: 0, ..ConnectPacket::new(flood.version, &id) })?;
        let stream = connection.into_stream();
        stream.set_nonblocking(true)?;
        Ok(Self { number, stream, messages: 0, packets: Vec::new(), at: 0, sent: 0, received: 0 })
    }

    /// Sends and reads what can be sent and read at once; was it anything?
    fn go_on(&mut self, flood: Flood) -> Result<bool> {
        if self.at == self.packets.len() && self.messages < flood.messages {
            (flood.packet)(self.number, self.messages, clear(&mut self.packets));
            (self.messages, self.at) = (self.messages + 1, 0);
        }
        let sent = at_once(self.stream.write(&self.packets[self.at..]))?;
        self.at += sent;
        self.sent += sent as u64;
        let mut answers = [0; 4096];
        let received = match self.stream.read(&mut answers) {
            Ok(0) => bail!("the host closed a connection"),
            read => at_once(read)?,
        };
        self.received += received as u64;
        Ok(sent + received > 0)
    }
}

fn clear(packets: &mut Vec<u8>) -> &mut Vec<u8> {
    packets.clear();
    packets
}

fn at_once(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

/// A connection is an open file, and 1,024 is the usual limit.
fn allow_open_files(connections: usize) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The tests run side by side.
    let enough = limit.maximum.is_none_or(|maximum| maximum > 3 * connections as u64 + 100);
    ensure!(enough, "these connections need more open files than this machine allows: ulimit -n 4000");
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
