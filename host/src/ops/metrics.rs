//! Every metric of the process, named once and here; `docs/operations.md` says what each is good for.
//!
//! All names begin with `rollcall_`, and counters end in `_total`. Whatever has a reason shows every reason from
//! the start, at zero, so that a query or an alert finds it before it has happened.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use rollcall_wire::codec::Rejection;

use super::by_status::ByStatus;
use super::credentials_file::CredentialsFile;
use super::door::TurnedAway;
use super::removed::Removed;
use super::{Answered, Dropped, HttpRefused, Part, Refused};
use crate::model::{Statuses, UnixMs};

/// From a fsync on a good disk to a store that was away for half a minute.
const FLUSH_SECONDS: (f64, f64, u16) = (0.001, 2.0, 16);

/// From one message to a full flush (4,096).
const FLUSH_MESSAGES: (f64, f64, u16) = (1.0, 4.0, 7);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPart {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFile {
    file: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtDoor {
    door: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Query {
    route: &'static str,
    answer: &'static str,
}

type Seconds = Counter<f64, AtomicU64>;

/// What is counted and measured. Each is shared with the registry that writes them out.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages that sources took from clients or a broker.
    pub received: Counter,
    /// Of these, stored now.
    pub accepted: Counter,
    pub(super) by_status: ByStatus,
    /// Of these, stored before.
    pub duplicates: Counter,
    /// Of these, stored and not counted: whether they were counted before cannot be told.
    pub undecided: Counter,
    /// Of these, no samples but a device that came or went.
    pub presence: Counter,
    rejected: Family<Reason, Counter>,
    dropped: Family<Reason, Counter>,
    /// Messages that wait to be stored and acknowledged.
    pub in_flight: Gauge,
    refused: Family<Reason, Counter>,
    http_refused: Family<Reason, Counter>,
    credentials: Family<OfFile, Gauge>,
    credentials_file_broken: Family<OfFile, Gauge>,
    certificate_expires: Gauge,
    /// 1 while the files of the certificate cannot be used as they are.
    pub(super) certificate_files_broken: Gauge,
    /// Connections of clients.
    pub connections_open: Gauge,
    /// All of them since the start.
    pub connections: Counter,
    /// Connections over HTTP.
    pub http_connections_open: Gauge,
    /// Connections that could not be taken.
    pub accept_errors: Counter,
    turned_away: Family<AtDoor, Counter>,
    queries: Family<Query, Counter>,
    queries_refused: Counter,
    /// Those who read `/v1/live` now.
    pub live_readers: Gauge,
    live_refused: Counter,
    flush_seconds: Histogram,
    flush_messages: Histogram,
    /// How often the store was away.
    pub store_outages: Counter,
    store_outage_seconds: Seconds,
    entries_beyond_windows: Gauge,
    entries_beyond_rows: Gauge,
    devices: Gauge,
    devices_by_state: Family<InState, Gauge>,
    /// What was removed.
    pub removed: Removed,
    source_wait_seconds: Gauge,
    /// How often the host's clock was set.
    pub clock_steps: Counter,
    parts_healthy: Family<OfPart, Gauge>,
    ready: Gauge,
    restarts: Family<OfPart, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut names = Names(Registry::with_prefix("rollcall"));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        names.0.register("build", "The version of this program", build);
        Self {
            received: names.add("messages_received", "Messages taken from clients or a broker"),
            accepted: names.add("messages_accepted", "Messages that were stored and are counted"),
            by_status: ByStatus::new(names.add("samples_counted", "Samples that were counted, by status")),
            duplicates: names.add("messages_duplicate", "Messages whose sample was counted already"),
            undecided: names.add(
                "messages_undecided",
                "Messages that were stored and are not counted, because nobody can tell whether they were",
            ),
            presence: names.add("messages_presence", "Messages that say that a device came or went"),
            rejected: names.by_reason(
                "messages_rejected",
                "Messages that will never be counted",
                Rejection::ALL.iter().map(|rejection| rejection.name()),
            ),
            dropped: names.by_reason(
                "messages_dropped",
                "Messages that were received and not stored; of QoS 1 they are sent again",
                Dropped::ALL.map(Dropped::name),
            ),
            in_flight: names.add("messages_in_flight", "Messages of QoS 1 received and not acknowledged yet"),
            refused: names.by_reason(
                "gateway_refusals",
                "Clients and packets that the gateway refused",
                Refused::ALL.map(Refused::name),
            ),
            http_refused: names.by_reason(
                "http_refusals",
                "Requests that were refused for where they went or who asked",
                HttpRefused::ALL.map(HttpRefused::name),
            ),
            credentials: names
                .add("credentials", "Entries of the devices file and the tokens file that are in force"),
            credentials_file_broken: names.add(
                "credentials_file_broken",
                "1 for a file that cannot be used as it is, so that an older version of it is in force",
            ),
            certificate_expires: names.with_unit(
                "tls_certificate_expires_timestamp",
                "When the certificate in force is valid no longer, as Unix time; 0 without TLS",
                Unit::Seconds,
                Gauge::default(),
            ),
            certificate_files_broken: names.add(
                "tls_certificate_broken",
                "1 for a certificate that cannot be used as it is, so that the one before it is in force",
            ),
            connections_open: names.add("connections_open", "Connections of clients to the gateway now"),
            connections: names.add("connections", "Connections that the gateway took"),
            http_connections_open: names.add("http_connections_open", "Connections over HTTP now"),
            accept_errors: names.add("accept_errors", "Attempts to take a connection that failed"),
            turned_away: names.turned_away(),
            queries: names.add("queries", "Queries that were answered, by what was asked for and how"),
            queries_refused: names.add("queries_refused", "Queries that found too many others before them"),
            live_readers: names.add("live_readers", "Readers of /v1/live now"),
            live_refused: names.add("live_refused", "Readers of /v1/live that found no place"),
            flush_seconds: names.with_unit(
                "flush_duration",
                "From the begin of a flush until all of it is stored, outages of the store included",
                Unit::Seconds,
                Histogram::new(exponential_buckets(FLUSH_SECONDS.0, FLUSH_SECONDS.1, FLUSH_SECONDS.2)),
            ),
            flush_messages: names.with(
                "flush_messages",
                "Messages in a flush",
                Histogram::new(exponential_buckets(FLUSH_MESSAGES.0, FLUSH_MESSAGES.1, FLUSH_MESSAGES.2)),
            ),
            store_outages: names.add("store_outages", "How often the store was away"),
            store_outage_seconds: names.with_unit(
                "store_outage",
                "How long the store was away",
                Unit::Seconds,
                Seconds::default(),
            ),
            entries_beyond_windows: names.add(
                "entries_beyond_windows",
                "Entries of the log that are not in the windows yet, over all slots",
            ),
            entries_beyond_rows: names.add(
                "entries_beyond_rows",
                "Entries of the log that are not in the rows of devices yet, over all slots",
            ),
            devices: names.add("devices", "Devices that have a row"),
            devices_by_state: names
                .add("devices_by_state", "Devices by how they were when all were looked at last"),
            removed: Removed {
                entries: names.add("entries_removed", "Entries of the log that were removed for their age"),
                messages: names.add("messages_removed", "Messages in these entries; their counts stay"),
                complete_from: names.with_unit(
                    "messages_complete_from_timestamp",
                    "Messages that were sampled from here on are all kept, as Unix time; 0 when all are",
                    Unit::Seconds,
                    Gauge::default(),
                ),
            },
            source_wait_seconds: names.with_unit(
                "source_wait",
                "How long the latest message had waited in a broker",
                Unit::Seconds,
                Gauge::default(),
            ),
            clock_steps: names.add("clock_steps", "How often the host's clock was set by 250 ms or more"),
            parts_healthy: names
                .add("part_healthy", "1 for a part of the process that works, 0 for one that does not"),
            ready: names.add("ready", "1 when /readyz says so"),
            restarts: names.add("restarts", "Parts that ended by themselves and were started again"),
            registry: names.0,
        }
    }
}

/// What has a name so far.
struct Names(Registry);

impl Names {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.with(name, help, M::default())
    }

    fn with<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn with_unit<M: Metric + Clone>(&mut self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }

    fn by_reason(
        &mut self,
        name: &str,
        help: &str,
        reasons: impl IntoIterator<Item = &'static str>,
    ) -> Family<Reason, Counter> {
        let family = self.add::<Family<Reason, Counter>>(name, help);
        reasons.into_iter().for_each(|reason| drop(family.get_or_create(&Reason { reason })));
        family
    }
}

impl Names {
    fn turned_away(&mut self) -> Family<AtDoor, Counter> {
        let help = "Connections that were closed for want of places";
        let family = self.add::<Family<AtDoor, Counter>>("connections_turned_away", help);
        for door in [Part::Source, Part::Http].map(Part::name) {
            for reason in TurnedAway::ALL.map(TurnedAway::name) {
                drop(family.get_or_create(&AtDoor { door, reason }));
            }
        }
        family
    }
}

impl Metrics {
    /// All of them as OpenMetrics text.
    pub fn text(&self, ready: bool) -> String {
        self.ready.set(ready.into());
        self.by_status.named(&Statuses::default());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes all that is written to it");
        text
    }

    /// One more rejection; all of its name so far.
    pub(super) fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected.get_or_create(&Reason { reason: rejection.name() }).inc() + 1
    }

    /// One more refusal; all of its name so far.
    pub(super) fn refused(&self, refused: Refused) -> u64 {
        self.refused.get_or_create(&Reason { reason: refused.name() }).inc() + 1
    }

    /// One more refusal over HTTP; all of its name so far.
    pub(super) fn http_refused(&self, refused: HttpRefused) -> u64 {
        self.http_refused.get_or_create(&Reason { reason: refused.name() }).inc() + 1
    }

    /// So many entries of a file are in force.
    pub(super) fn credentials(&self, file: CredentialsFile, entries: usize) {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.credentials.get_or_create(&OfFile { file: file.name() }).set(entries);
    }

    pub(super) fn certificate(&self, expires: UnixMs) {
        self.certificate_expires.set(i64::try_from(expires.0 / 1000).unwrap_or(i64::MAX));
    }

    pub(super) fn credentials_file_broken(&self, file: CredentialsFile, broken: bool) {
        self.credentials_file_broken.get_or_create(&OfFile { file: file.name() }).set(broken.into());
    }

    /// One more connection that was turned away; all of its door and reason so far.
    pub(super) fn turned_away(&self, door: Part, reason: TurnedAway) -> u64 {
        self.turned_away.get_or_create(&AtDoor { door: door.name(), reason: reason.name() }).inc() + 1
    }

    /// There is a route for queries.
    pub fn has_route(&self, route: &'static str) {
        for answer in Answered::ALL.map(Answered::name) {
            drop(self.queries.get_or_create(&Query { route, answer }));
        }
    }

    /// A query was answered.
    pub fn query(&self, route: &'static str, answered: Answered) {
        self.queries.get_or_create(&Query { route, answer: answered.name() }).inc();
    }

    /// So many devices are in each state, as far as that is known.
    pub fn devices_by_state(&self, states: &[(&'static str, u64)]) {
        self.devices_by_state.clear();
        for (state, devices) in states {
            let devices = i64::try_from(*devices).unwrap_or(i64::MAX);
            self.devices_by_state.get_or_create(&InState { state }).set(devices);
        }
    }

    pub(super) fn query_refused(&self) -> u64 {
        self.queries_refused.inc() + 1
    }

    pub(super) fn live_refused(&self) -> u64 {
        self.live_refused.inc() + 1
    }

    pub(super) fn dropped(&self, why: Dropped, messages: u64) {
        self.dropped.get_or_create(&Reason { reason: why.name() }).inc_by(messages);
    }

    pub(super) fn restarted(&self, part: Part, times: u64) {
        self.restarts.get_or_create(&OfPart { part: part.name() }).inc_by(times);
    }

    pub(crate) fn part_healthy(&self, part: Part, healthy: bool) {
        self.parts_healthy.get_or_create(&OfPart { part: part.name() }).set(healthy.into());
    }

    pub(super) fn outage_lasted(&self, time: Duration) {
        self.store_outage_seconds.inc_by(time.as_secs_f64());
    }

    /// A flush of so many messages is stored.
    pub fn flushed(&self, messages: usize, took: Duration) {
        self.flush_messages.observe(messages as f64);
        self.flush_seconds.observe(took.as_secs_f64());
    }

    /// So many entries of the log are not in the windows, and not in the rows of so many devices.
    pub fn made_from_log(&self, (windows, rows): (u64, u64), devices: u64) {
        for (gauge, value) in [
            (&self.entries_beyond_windows, windows),
            (&self.entries_beyond_rows, rows),
            (&self.devices, devices),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// The latest message had waited so long in a broker.
    pub fn waited(&self, seconds: u32) {
        self.source_wait_seconds.set(seconds.into());
    }
}
