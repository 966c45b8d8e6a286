//! One MQTT 5 connection: handshake, presence, publishes and what their acknowledgements mean.
//!
//! Guarantees: a sample is acknowledged only by a PUBACK that said success, and given up only where its own
//! PUBACK said that topic or payload is invalid. Any timeout or error ends the connection, so that no
//! future is dropped whose half-done work could matter. This file alone names the MQTT client, minimq; a
//! session of it lives as long as one connection, because the outbox is the only store: a packet that
//! minimq would keep and repeat would carry an age that is no longer true.

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{Read, Write};
use heapless::Vec;
use minimq::{
    Buffers, ConfigBuilder, Connection, Error, Op, PeerError, Property, PubError, Publication, QoS,
    ResourceError, Will,
};
use rand_core::RngCore;
use rollcall_wire::codec::{AGE_MAX_MS, ENCODED_MAX, MESSAGE_EXPIRY_S, encode};
use rollcall_wire::reading::DEVICE_ID_MAX;
use rollcall_wire::topic::TOPIC_MAX;
use rollcall_wire::{ConnectionId, Kind, Reading, SampleId, Sequence, Topic, mutant, presence};

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::{
    ACK_TIMEOUT_MS, Config, FAREWELL_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS, KEEP_ALIVE_S, PASSWORD_MAX, USER_MAX,
    WINDOW, WRITE_TIMEOUT_MS,
};
use crate::fmt::{Name, info, warning};
use crate::ledger::Ledger;
use crate::outbox::Sample;
use crate::sharing::Sharing;
use crate::stats::LinkError;
use crate::wait::within;
use crate::watch::{Seen, Watched};

/// One inbound packet: CONNACK with a broker's properties is the longest.
const RX_SIZE: usize = 256;

/// MQTT 5, section 2.1: type and length. minimq reserves them whole before it knows the length.
const HEADER_MAX: usize = 5;

/// Topic, packet id, Message Expiry Interval and payload.
const PUBLISH_MAX: usize = HEADER_MAX + (2 + TOPIC_MAX) + 2 + (1 + 5) + ENCODED_MAX;

const _: () = assert!(presence::ENCODED_MAX <= ENCODED_MAX, "presence fits where a reading does");

/// Protocol and flags, three properties, client id, the will without properties, user and password.
const CONNECT_MAX: usize = HEADER_MAX
    + 10
    + (1 + 5 + 5 + 3)
    + (2 + DEVICE_ID_MAX)
    + (1 + 2 + TOPIC_MAX + 2 + presence::ENCODED_MAX)
    + (2 + USER_MAX)
    + (2 + PASSWORD_MAX);

/// minimq keeps the packets in flight and room for CONNECT in one buffer.
const TX_SIZE: usize = WINDOW * PUBLISH_MAX + CONNECT_MAX;

/// MQTT 5, section 3.4.2.1: no matching subscribers.
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;

/// The same section: what the broker will never take. Any other reason may pass.
const TOPIC_NAME_INVALID: u8 = 0x90;
const PAYLOAD_FORMAT_INVALID: u8 = 0x99;

/// The session looks after the keep-alive at least this often, in milliseconds, so that it needs no timer
/// of minimq's: a ping is sent 5 s before the keep-alive ends, and the broker waits for half as long again.
const KEEP_ALIVE_CHECK_MS: u64 = 5_000;

/// Serves one connection until it fails, or until sampling has stopped and the outbox is drained or its
/// time is up.
///
/// # Errors
/// Why the connection ended otherwise.
pub(crate) async fn serve<S: Sharing, const N: usize>(
    io: impl Read + Write,
    config: &Config<'_>,
    ledger: &Ledger<'_, S, N>,
    clock: &impl Clock,
    rng: &mut impl RngCore,
) -> Result<(), LinkError> {
    let (mut rx, mut tx) = ([0; RX_SIZE], [0; TX_SIZE]);
    let seen = Seen::default();
    let id = ConnectionId { boot: config.boot, run: config.run, number: ledger.next_connection() };
    let offline = presence::encode(false, &id);
    let setup = setup(config, &offline, Buffers::new(&mut rx, &mut tx));
    let mut mqtt = minimq::Session::new(setup.map_err(|_| LinkError::Buffer)?);
    let handshake = within(clock, HANDSHAKE_TIMEOUT_MS, mqtt.connect(Watched::new(io, &seen)));
    let connection = match select(handshake, ledger.over(clock)).await {
        Either::First(Either::First(connected)) => connected.map_err(|error| link_error(&error, &seen))?,
        Either::First(Either::Second(())) => return Err(LinkError::HandshakeTimeout),
        Either::Second(()) => return Ok(()),
    };
    info!("{}: connected", Name(&config.device));
    ledger.connected(clock.now_ms());
    let (window, refusals, resume_at_ms) = (Vec::new(), Backoff::new(), None);
    Session { connection, id, seen: &seen, config, ledger, clock, rng, window, refusals, resume_at_ms }
        .run()
        .await
}

fn setup<'b>(
    config: &Config<'b>,
    offline: &'b str,
    buffers: Buffers<'b>,
) -> Result<ConfigBuilder<'b>, minimq::ConfigError> {
    let presence = topic(config, Kind::Presence).name();
    let will = Will::new(&presence, offline.as_bytes(), &[])?.retained().qos(QoS::AtLeastOnce);
    let setup = ConfigBuilder::new(buffers)
        .client_id(config.device.as_str())?
        .keepalive_interval(KEEP_ALIVE_S)
        .session_expiry_interval(0)
        .will(will)?;
    match &config.credentials {
        Some(credentials) => setup.auth(credentials.user(), credentials.password()),
        None => Ok(setup),
    }
}

fn topic(config: &Config<'_>, kind: Kind) -> Topic {
    Topic { device: config.device, kind }
}

/// What a publish in flight carries.
#[derive(Clone, Copy, PartialEq)]
enum Carried {
    Presence,
    Sample(Sequence),
}

struct InFlight {
    op: Op,
    carried: Carried,
    sent_at_ms: u64,
}

struct Session<'s, 'c, 'buf, IO, C, R, S: Sharing, const N: usize> {
    connection: Connection<'c, 'buf, Watched<'s, IO>>,
    id: ConnectionId,
    seen: &'s Seen,
    config: &'s Config<'s>,
    ledger: &'s Ledger<'s, S, N>,
    clock: &'s C,
    rng: &'s mut R,
    /// Oldest first.
    window: Vec<InFlight, WINDOW>,
    refusals: Backoff,
    /// Set while refusals last: nothing is sent before, and one at a time after, until one succeeds.
    resume_at_ms: Option<u64>,
}

impl<IO, C, R, S, const N: usize> Session<'_, '_, '_, IO, C, R, S, N>
where
    IO: Read + Write,
    C: Clock,
    R: RngCore,
    S: Sharing,
{
    async fn run(&mut self) -> Result<(), LinkError> {
        self.say(true).await?;
        loop {
            self.fill_window().await?;
            if self.ledger.is_over(self.clock.now_ms()) {
                // Whatever comes of it, the outbox is as it is, and the last will stands in.
                let _ = within(self.clock, FAREWELL_TIMEOUT_MS, self.farewell()).await;
                return Ok(());
            }
            self.wait().await?;
        }
    }

    async fn fill_window(&mut self) -> Result<(), LinkError> {
        while self.has_room() {
            let now_ms = self.clock.now_ms();
            let Some(sample) = self.ledger.claim(now_ms) else { return Ok(()) };
            self.send(sample, now_ms).await?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let limit = match self.resume_at_ms {
            None => WINDOW,
            Some(at) if self.clock.now_ms() < at => 0,
            Some(_) => 1,
        };
        self.window.len() < limit && self.connection.can_publish(QoS::AtLeastOnce)
    }

    async fn send(&mut self, sample: Sample, now_ms: u64) -> Result<(), LinkError> {
        let id = SampleId { boot: self.config.boot, seq: sample.seq };
        let age_ms = sample.age_ms(now_ms).unwrap_or(AGE_MAX_MS);
        let (up_ms, run, taken) = (Some(now_ms), self.config.run, self.ledger.taken(sample.seq));
        let payload = encode(&Reading { status: sample.status, id: Some(id), age_ms, up_ms, run, taken });
        let name = topic(self.config, Kind::Status).name();
        let properties = [Property::MessageExpiryInterval(MESSAGE_EXPIRY_S)];
        let publication = Publication::text(&name, &payload).properties(&properties);
        self.publish(publication, Carried::Sample(sample.seq)).await?;
        self.ledger.published();
        Ok(())
    }

    async fn say(&mut self, is_online: bool) -> Result<(), LinkError> {
        let name = topic(self.config, Kind::Presence).name();
        let payload = presence::encode(is_online, &self.id);
        self.publish(Publication::text(&name, &payload).retain(), Carried::Presence).await
    }

    async fn publish(
        &mut self,
        publication: Publication<'_, &str>,
        carried: Carried,
    ) -> Result<(), LinkError> {
        let publish = self.connection.publish(publication.qos(QoS::AtLeastOnce));
        let op = match within(self.clock, WRITE_TIMEOUT_MS, publish).await {
            Either::First(Ok(op)) => op.ok_or(LinkError::QosUnsupported)?,
            Either::First(Err(PubError::Session(error))) => return Err(link_error(&error, self.seen)),
            Either::First(Err(PubError::Payload(()))) => return Err(LinkError::Buffer),
            Either::Second(()) => return Err(LinkError::WriteTimeout),
        };
        let in_flight = InFlight { op, carried, sent_at_ms: self.clock.now_ms() };
        // The window is never longer than minimq's own, which just took the packet.
        self.window.push(in_flight).map_err(|_| LinkError::Buffer)
    }

    /// Waits until there is something to do, and sees to what came in.
    async fn wait(&mut self) -> Result<(), LinkError> {
        let (has_room, was_stopping) = (self.has_room(), self.ledger.is_stopping());
        let wake_at_ms = self.wake_at_ms();
        let progress = async { self.connection.poll().await.map(drop) };
        let ledger = self.ledger;
        let work = ledger.until(|| has_room && ledger.has_unsent() || ledger.is_stopping() != was_stopping);
        match select3(progress, work, self.clock.sleep_until(wake_at_ms)).await {
            Either3::First(progress) => self.settle(progress),
            Either3::Second(()) => Ok(()),
            Either3::Third(()) => self.check_acknowledgements(),
        }
    }

    fn wake_at_ms(&self) -> u64 {
        let now_ms = self.clock.now_ms();
        let acknowledged_by = self.window.first().map(|oldest| oldest.sent_at_ms + ACK_TIMEOUT_MS);
        let resume_at = self.resume_at_ms.filter(|at| *at > now_ms);
        [acknowledged_by, resume_at, self.ledger.drain_until_ms()]
            .into_iter()
            .flatten()
            .fold(now_ms + KEEP_ALIVE_CHECK_MS, u64::min)
    }

    /// Only when nothing came in: acknowledgements that already wait to be read are in time.
    fn check_acknowledgements(&self) -> Result<(), LinkError> {
        let now_ms = self.clock.now_ms();
        match self.window.first() {
            Some(oldest) if now_ms >= oldest.sent_at_ms + ACK_TIMEOUT_MS => Err(LinkError::AckTimeout),
            _ => Ok(()),
        }
    }

    /// Takes what has completed out of the window.
    ///
    /// minimq calls a publish complete whatever its PUBACK said: it tells of a failure (0x80 and above)
    /// without saying whose, and of 0x10, with which a broker stored nothing, not at all. It handles one
    /// packet a poll, so what completed together with a refusal is what was refused. It can be more where
    /// a poll was cut short; then all of it is sent again, and the host knows the duplicates.
    fn settle<E>(&mut self, progress: Result<(), Error<E>>) -> Result<(), LinkError>
    where
        E: embedded_io_async::Error,
    {
        let refusal = match &progress {
            Err(Error::Peer(PeerError::Rejected(reason))) => Some(u8::from(reason)),
            _ => None,
        };
        let refusal = mutant!(RefusalIsSuccess, None, self.seen.take_refusal().or(refusal));
        let completed =
            self.window.iter().filter(|in_flight| self.connection.is_complete(&in_flight.op)).count();
        let mut index = 0;
        while let Some(InFlight { op, carried, sent_at_ms }) = self.window.get(index) {
            if !self.connection.is_complete(op) {
                index += 1;
                continue;
            }
            let (carried, sent_at_ms) = (*carried, *sent_at_ms);
            self.window.remove(index);
            match (carried, refusal) {
                (Carried::Sample(seq), None) => self.settled(seq, sent_at_ms, None),
                (Carried::Sample(seq), Some(TOPIC_NAME_INVALID | PAYLOAD_FORMAT_INVALID))
                    if completed == 1 =>
                {
                    self.settled(seq, sent_at_ms, refusal);
                }
                (Carried::Sample(seq), Some(reason)) => self.refused(seq, sent_at_ms, reason),
                // Nobody need care for presence, and samples can do without it.
                (Carried::Presence, None | Some(NO_MATCHING_SUBSCRIBERS)) => {}
                (Carried::Presence, Some(reason)) => {
                    warning!("{}: presence refused with reason {}", Name(&self.config.device), reason);
                }
            }
        }
        match progress {
            Ok(()) | Err(Error::Peer(PeerError::Rejected(_))) => Ok(()),
            Err(error) => Err(link_error(&error, self.seen)),
        }
    }

    /// The sample is done with: the broker took it, or refused it for good.
    fn settled(&mut self, seq: Sequence, sent_at_ms: u64, refusal: Option<u8>) {
        if let Some(reason) = refusal {
            warning!("{}: sample refused for good with reason {}", Name(&self.config.device), reason);
        }
        self.ledger.settle(seq, refusal);
        if self.resume_at_ms.is_some_and(|at| sent_at_ms >= at) {
            self.resume_at_ms = None;
            self.refusals.reset();
        }
    }

    /// The wait grows once a round, not with each refused publish of a round.
    fn refused(&mut self, seq: Sequence, sent_at_ms: u64, reason: u8) {
        self.ledger.reject(seq, reason);
        if self.resume_at_ms.is_none_or(|at| sent_at_ms >= at) {
            let wait_ms = self.refusals.next_ms(self.rng);
            let device = Name(&self.config.device);
            warning!("{}: sample refused with reason {}; again in {} ms", device, reason, wait_ms);
            self.resume_at_ms = Some(self.clock.now_ms() + wait_ms);
        }
    }

    /// Says `offline` and, once the broker has it, disconnects, which discards the will. Where it cannot
    /// be said, the connection is merely dropped and the will says it.
    async fn farewell(&mut self) -> Result<(), LinkError> {
        if !self.connection.can_publish(QoS::AtLeastOnce) || self.window.is_full() {
            return Ok(());
        }
        self.say(false).await?;
        while self.window.iter().any(|in_flight| in_flight.carried == Carried::Presence) {
            let progress = self.connection.poll().await.map(drop);
            self.settle(progress)?;
        }
        self.connection.disconnect().await.map_err(|error| link_error(&error, self.seen))
    }
}

fn link_error<E: embedded_io_async::Error>(error: &Error<E>, seen: &Seen) -> LinkError {
    match error {
        Error::Disconnected => seen.disconnect().map_or(LinkError::Closed, LinkError::Refused),
        Error::Peer(PeerError::Rejected(reason)) => LinkError::Refused(reason.into()),
        Error::Peer(_) => LinkError::Protocol,
        Error::Transport(error) => LinkError::Transport(error.kind()),
        Error::WriteZero => LinkError::Closed,
        // A publish above the broker's Maximum QoS; nothing else is ever asked for that is not valid.
        Error::InvalidRequest => LinkError::QosUnsupported,
        Error::Resource(ResourceError::PacketTooLarge) => LinkError::PacketTooLarge,
        _ => LinkError::Buffer,
    }
}
