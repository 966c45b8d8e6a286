//! What happens to the parts: each method counts an event and, where an operator should hear of it, logs it.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use rollcall_wire::codec::Rejection;
use rollcall_wire::{DeviceId, SampleId, Status};

use super::door::TurnedAway;
use super::{CredentialsFile, Dropped, HttpRefused, Ops, Part, Refused};
use crate::model::UnixMs;

impl Ops {
    /// A sample is counted.
    pub fn counted(&self, status: Status) {
        self.metrics.accepted.inc();
        self.metrics.by_status.inc(status);
    }

    /// A message will never be counted.
    pub fn rejected(&self, rejection: Rejection, topic: &str) {
        let total = self.metrics.rejected(rejection);
        if self.limit.allows(rejection.name(), Instant::now()) {
            tracing::warn!(%rejection, total, topic, "message rejected; the next of this name is logged in a minute");
        }
    }

    /// A sample will not be counted, although its message is well formed.
    pub fn not_counted(&self, rejection: Rejection, device: DeviceId, sample: Option<SampleId>) {
        let total = self.metrics.rejected(rejection);
        if self.limit.allows(rejection.name(), Instant::now()) {
            let boot = sample.map(|sample| tracing::field::display(sample.boot));
            let seq = sample.map(|sample| sample.seq.get());
            tracing::warn!(%rejection, total, %device, boot, seq, "sample not counted; the next of this name is logged in a minute");
        }
    }

    /// Whether a sample was counted before cannot be told, and its sender would not hear it: it is stored, and not
    /// counted.
    pub fn undecided(&self, device: DeviceId, sample: Option<SampleId>) {
        let total = self.metrics.undecided.inc() + 1;
        if self.limit.allows("undecided", Instant::now()) {
            let boot = sample.map(|sample| tracing::field::display(sample.boot));
            let seq = sample.map(|sample| sample.seq.get());
            tracing::warn!(total, %device, boot, seq, "sample stored as undecided, and not counted: it is behind the bounds of what is known of its boot; the next is logged in a minute");
        }
    }

    /// The gateway refused a client, or a packet of it.
    pub fn refused(&self, refused: Refused, client: SocketAddr) {
        let total = self.metrics.refused(refused);
        if self.limit.allows(refused.name(), Instant::now()) {
            let reason = refused.name();
            tracing::warn!(reason, total, %client, "mqtt client refused; the next of this reason is logged in a minute");
        }
    }

    /// A request was refused before anybody looked at what it asks for.
    pub fn http_refused(&self, refused: HttpRefused, client: Option<SocketAddr>) {
        let total = self.metrics.http_refused(refused);
        if self.limit.allows(refused.name(), Instant::now()) {
            let (reason, client) = (refused.name(), client.map(tracing::field::display));
            tracing::warn!(
                reason,
                total,
                client,
                "http request refused; the next of this reason is logged in a minute"
            );
        }
    }

    /// A file of credentials is in force, with so many entries.
    pub fn credentials_in_force(&self, file: CredentialsFile, entries: usize) {
        self.metrics.credentials(file, entries);
        self.metrics.credentials_file_broken(file, false);
    }

    /// It has changed, and what it says now is in force.
    pub fn credentials_read(&self, file: CredentialsFile, entries: usize, path: &Path) {
        self.credentials_in_force(file, entries);
        tracing::info!(entries, path = %path.display(), "the {} file has changed and is in force", file.name());
    }

    /// It has changed, and cannot be used.
    pub fn credentials_broken(&self, file: CredentialsFile, error: &str) {
        self.metrics.credentials_file_broken(file, true);
        tracing::error!(error, "the {} file cannot be used; what it said before stays in force", file.name());
    }

    /// A certificate is in force that is valid until then.
    pub fn certificate_in_force(&self, expires: UnixMs) {
        self.metrics.certificate(expires);
        self.metrics.certificate_files_broken.set(0);
    }

    /// Its files have changed, and what they hold now is in force for new connections.
    pub fn certificate_read(&self, expires: UnixMs, path: &Path) {
        self.certificate_in_force(expires);
        let path = path.display();
        tracing::info!(%path, "the certificate has changed and is in force; open connections keep the one they have");
    }

    /// They have changed, and cannot be used.
    pub fn certificate_broken(&self, error: &str) {
        self.metrics.certificate_files_broken.set(1);
        tracing::error!(error, "the certificate cannot be used; the one before it stays in force");
    }

    /// The certificate in force ends soon, or has ended.
    pub fn certificate_expires(&self, days_left: i64) {
        if days_left < 0 {
            tracing::error!("the certificate has expired: clients refuse it; renew it (rollcall tls init)");
        } else {
            tracing::warn!(days_left, "the certificate expires soon; renew it (rollcall tls init)");
        }
    }

    /// Messages were received and are not stored. When the process ends or a connection does, that is as it
    /// must be, and a number is enough.
    pub fn dropped(&self, why: Dropped, messages: u64) {
        self.metrics.dropped(why, messages);
        match why {
            _ if messages == 0 => {}
            Dropped::ClientLeft if self.limit.allows("client_left", Instant::now()) => tracing::warn!(
                messages,
                "a client left while the store was away; what it had sent and was not acknowledged is not stored; \
                 the next is logged in a minute"
            ),
            Dropped::IngestFailed => tracing::error!(
                messages,
                "the ingest loop failed while it held messages; those of QoS 1 are sent again"
            ),
            Dropped::ClientLeft | Dropped::Draining | Dropped::ConnectionLost => {}
        }
    }

    /// The system gave no descriptor for a connection: until it does, clients wait in the kernel's queue.
    pub fn accept_failed(&self, door: Part, error: &std::io::Error) {
        self.metrics.accept_errors.inc();
        let (name, protocol) = if door == Part::Http { ("accept_http", "http") } else { ("accept", "mqtt") };
        self.unhealthy(door, &format_args!("cannot take an {protocol} connection: {error}"));
        if self.limit.allows(name, Instant::now()) {
            tracing::error!(%error, "cannot take an {protocol} connection; trying again, and said once a minute");
        }
    }

    /// A connection from `client` is closed for want of places.
    pub fn turned_away(&self, door: Part, why: TurnedAway, client: IpAddr) {
        let total = self.metrics.turned_away(door, why);
        let name = if door == Part::Http { "places_http" } else { "places_mqtt" };
        if self.limit.allows(name, Instant::now()) {
            let reason = why.name();
            tracing::warn!(
                %door,
                reason,
                total,
                %client,
                "too many connections: this one is closed; the next of this door is logged in a minute"
            );
        }
    }

    /// A query found too many others before it.
    pub fn query_refused(&self, client: Option<SocketAddr>) {
        let total = self.metrics.query_refused();
        if self.limit.allows("queries", Instant::now()) {
            let client = client.map(tracing::field::display);
            tracing::warn!(total, client, "too many queries at a time; the next is logged in a minute");
        }
    }

    /// Another reader of `/v1/live` found no place.
    pub fn live_refused(&self, client: Option<SocketAddr>) {
        let total = self.metrics.live_refused();
        if self.limit.allows("live", Instant::now()) {
            let client = client.map(tracing::field::display);
            tracing::warn!(total, client, "too many readers of /v1/live; the next is logged in a minute");
        }
    }

    /// The host's clock was set forward by so many milliseconds, or back.
    pub(super) fn clock_set(&self, forward_ms: i64) {
        self.metrics.clock_steps.inc();
        tracing::warn!(
            forward_ms,
            "the host's clock was set; samples are dated by it as it is now, and what was stored before is not changed"
        );
    }

    /// The store is away, or still is.
    pub(super) fn store_away(&self, first: bool, doing: &str, error: &dyn Display, retry: Duration) {
        if first {
            self.metrics.store_outages.inc();
        }
        self.unhealthy(Part::Store, error);
        tracing::error!(%error, retry_ms = retry.as_millis(), "{doing}");
    }

    /// A part is looked after from now on: the number of its restarts is there before the first.
    pub(super) fn supervised(&self, part: Part) {
        self.metrics.restarted(part, 0);
    }

    /// A part has ended by itself, and is started again after a pause.
    pub(super) fn restarting(&self, part: Part, reason: &dyn Display, pause: Duration) {
        self.metrics.restarted(part, 1);
        tracing::error!(%part, %reason, pause_ms = pause.as_millis(), "a part ended by itself and is started again");
    }
}
