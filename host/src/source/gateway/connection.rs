//! One client's connection: its packets in, its answers out, in one task; its messages are handed on in `publishing`.
//!
//! Guarantees: its messages enter the inbox in the order in which they came; what arrived whole is handed on
//! even if the client has left meanwhile; answers leave in the order of their publishes (MQTT-4.6.0-2), and
//! only once the ingest loop has settled them. What a connection holds is bounded: one message that waits for
//! the inbox, [`RECEIVE_MAX`] that wait for their verdicts, and a packet that is not whole yet.

mod publishing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::clients::Identified;
use super::pace::Pace;
use super::protocol::{
    self, Hello, Protocol, Publish, RECEIVE_MAX, Reason, Refusal, Request, TooLong, Welcome, packet_length,
};
use super::socket::Socket;
use super::unanswered::{NotStored, Settled, Unanswered};
use super::{Connected, Shared};
use crate::ops::door::{Place, TurnedAway};
use crate::ops::{Part, Refused};
use crate::source::admission::{NotAdmitted, Rights};

/// A client has this long to send its CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who shows a wrong password hears so after this long.
const FAILED_LOGIN_DELAY: Duration = Duration::from_secs(1);

/// The longest keep-alive: for clients that ask for more, or for none. Without a bound a client that has vanished
/// keeps its descriptor for 18 hours or for ever.
const KEEP_ALIVE_MAX_S: u16 = 3_600;

/// Answers that a client does not read, in bytes; beyond it nothing more is read from the client.
const OUTPUT_MAX: usize = 8 * 1024;

/// Serves a client until it leaves, breaks the rules or the gateway closes.
pub(super) async fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    client: SocketAddr,
    place: Place,
    shared: Arc<Shared>,
) {
    let _connected = Connected::new(shared.clone());
    // Out of random numbers: there is nobody to tell.
    let Ok(socket) = Socket::new(stream, tls) else { return };
    let mut connection = Connection {
        socket,
        client,
        unanswered: Unanswered::default(),
        rights: Rights::default(),
        will: None,
        pace: Pace::new(Instant::now()),
        shared,
    };
    let welcomed = tokio::select! {
        welcomed = timeout(CONNECT_TIMEOUT, connection.welcome()) => welcomed,
        () = place.sent_away() => {
            let ops = &connection.shared.ops;
            return ops.turned_away(Part::Source, TurnedAway::ForAnother, client.ip());
        }
    };
    match welcomed {
        Ok(Some(mut let_in)) => {
            place.is_busy();
            if let Err(End::Farewell) = connection.run(&mut let_in).await {
                connection.socket.goodbye().await;
            }
            connection.publish_will(&mut let_in.protocol).await;
        }
        Ok(None) => {}
        Err(_) => connection.refused(Refused::ConnectTimeout),
    }
}

struct Connection {
    socket: Socket,
    client: SocketAddr,
    shared: Arc<Shared>,
    /// Publishes that are not answered yet, in their order.
    unanswered: Unanswered,
    /// What the client may do.
    rights: Rights,
    /// What to publish when the client is gone without a word.
    will: Option<Publish>,
    pace: Pace,
}

/// A client that is let in.
struct LetIn {
    protocol: Protocol,
    identified: Identified,
    /// How long it may be silent.
    silence: Duration,
}

/// Why a connection ends.
enum End {
    /// The client has left.
    Left,
    /// We close; what is in the output is to be read by the client.
    Farewell,
}

impl Connection {
    /// Waits for a CONNECT and answers it.
    async fn welcome(&mut self) -> Option<LetIn> {
        let length = loop {
            match packet_length(&self.socket.input) {
                Ok(Some(length)) => break length,
                Ok(None) => {}
                Err(_) => {
                    self.refused(Refused::NoConnect);
                    return None;
                }
            }
            self.socket.more().await.ok()?;
            if self.socket.tls_failed {
                self.refused(Refused::TlsFailed);
            }
            if self.socket.left {
                return None;
            }
        };
        let (protocol, hello) = match protocol::hello(&self.socket.input[..length]) {
            Ok(hello) => hello,
            Err(not_welcome) => {
                self.refused(not_welcome.refused);
                self.socket.output = not_welcome.answer;
                self.socket.goodbye().await;
                return None;
            }
        };
        self.socket.consume(length);
        let refusal = if hello.other_authentication {
            Some(Refusal::BadAuthenticationMethod)
        } else {
            self.admit(&hello).err()
        };
        if let Some(refusal) = refusal {
            self.refused(refusal.counted());
            if let Refusal::BadUserNameOrPassword = refusal {
                sleep(FAILED_LOGIN_DELAY).await;
            }
            protocol.refuse(refusal, &mut self.socket.output);
            self.socket.goodbye().await;
            return None;
        }
        self.let_in(protocol, hello).await
    }

    fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let user = hello.user.as_ref().map(|user| user.as_bytes().as_ref());
        let password = hello.password.as_ref().map(AsRef::as_ref);
        let visitor = self.shared.failed_logins.visitor(self.client.ip(), user);
        if self.shared.failed_logins.shuts_out(visitor, Instant::now().into_std()) {
            return Err(Refusal::TooManyFailedLogins);
        }
        let rights = self.shared.admission.admit(user, password, &hello.client_id);
        self.rights = rights.map_err(|reason| match reason {
            NotAdmitted::BadUserNameOrPassword => {
                self.shared.failed_logins.failed(visitor, Instant::now().into_std());
                Refusal::BadUserNameOrPassword
            }
            NotAdmitted::OtherDevicesClientId => Refusal::OtherDevicesClientId,
        })?;
        if self.shared.open.load(Ordering::SeqCst) { Ok(()) } else { Err(Refusal::ServerUnavailable) }
    }

    async fn let_in(&mut self, protocol: Protocol, hello: Hello) -> Option<LetIn> {
        let user = hello.user.as_deref().filter(|_| !self.shared.admission.is_open());
        let identified = self.shared.clients.enter(user, &hello.client_id);
        let keep_alive_s = match hello.keep_alive_s {
            0 => KEEP_ALIVE_MAX_S,
            seconds => seconds.min(KEEP_ALIVE_MAX_S),
        };
        let welcome = Welcome {
            // MQTT-3.1.3-7: a client without an id learns the one that it got.
            assigned_client_id: hello.client_id.is_empty().then(|| identified.client_id().to_owned()),
            keep_alive_s: (keep_alive_s != hello.keep_alive_s).then_some(keep_alive_s),
        };
        if let Err(TooLong) = protocol.welcome(welcome, &mut self.socket.output) {
            self.refused(Refused::PacketTooLarge);
            protocol.refuse_too_long(&mut self.socket.output);
            self.socket.goodbye().await;
            return None;
        }
        self.will = hello.will;
        // MQTT-3.1.2-24 of 3.1.1, MQTT-3.1.2-22 of 5: one and a half times the keep-alive.
        Some(LetIn { protocol, identified, silence: Duration::from_secs(keep_alive_s.into()) * 3 / 2 })
    }

    async fn run(&mut self, LetIn { protocol, identified, silence }: &mut LetIn) -> Result<(), End> {
        let mut closing = self.shared.closing.subscribe();
        let mut heard = Instant::now();
        loop {
            while self.may_take(protocol)
                && let Some(request) = self.next_request(protocol)?
            {
                self.handle(protocol, request).await?;
                heard = Instant::now();
            }
            self.socket.write();
            if self.socket.left {
                return Err(End::Left);
            }
            let may_read = self.may_take(protocol);
            let may_write = self.socket.wants_write();
            let rests_until = self.pace.rests_until();
            tokio::select! {
                biased;
                settled = self.unanswered.settled() => {
                    self.answer(protocol, settled)?;
                    self.answer_settled(protocol)?;
                }
                _ = closing.wait_for(|closing| *closing) => {
                    self.answer_settled(protocol)?;
                    return Err(self.end(protocol, Reason::ServerShuttingDown));
                }
                () = self.rights.revoked() => return Err(self.end(protocol, Reason::NotAuthorized)),
                () = identified.followed() => return Err(self.end(protocol, Reason::SessionTakenOver)),
                readable = self.socket.readable(), if may_read => {
                    self.socket.left |= readable.is_err();
                    self.socket.read();
                }
                _ = self.socket.writable(), if may_write => {}
                has_left = rest(&self.socket, rests_until), if rests_until.is_some() => {
                    // What it has sent may take hours at this pace, and nobody waits for answers.
                    if has_left {
                        return Err(End::Left);
                    }
                    self.pace.go_on(Instant::now());
                }
                // A client is not silent while it is not heard, but it is while it does not read.
                () = sleep_until(heard + *silence), if may_read || may_write => {
                    return Err(self.end(protocol, Reason::KeepAliveTimeout));
                }
            }
            if !may_read {
                heard = Instant::now();
            }
        }
    }

    /// Speaks for a client that is gone without having left as it should (MQTT-3.1.2-8). A process that ends says
    /// nothing of its clients.
    async fn publish_will(&mut self, protocol: &mut Protocol) {
        if let Some(will) = self.will.take()
            && self.rights.are_valid()
            && !self.shared.gate.is_draining()
        {
            self.socket.input.clear();
            self.socket.left = true;
            let _ = self.publish(protocol, will).await;
        }
    }

    /// A client that has left waits for no answers, so none holds back what it had sent.
    fn may_take(&self, protocol: &Protocol) -> bool {
        // A client of MQTT 5 counts for itself; one that does not is cut off by `publish`.
        let bounded = !protocol.announces_receive_maximum();
        let full = bounded && self.unanswered.len() >= usize::from(RECEIVE_MAX.get());
        let rests = self.pace.rests_until().is_some();
        self.socket.left || (!full && !rests && self.socket.output.len() < OUTPUT_MAX)
    }

    /// The next request, if all of it is there.
    fn next_request(&mut self, protocol: &mut Protocol) -> Result<Option<Request>, End> {
        let request = packet_length(&self.socket.input).and_then(|length| {
            let Some(length) = length else { return Ok(None) };
            let request = protocol.request(&self.socket.input[..length])?;
            self.socket.consume(length);
            Ok(Some(request))
        });
        request.map_err(|reason| self.end(protocol, reason))
    }

    async fn handle(&mut self, protocol: &mut Protocol, request: Request) -> Result<(), End> {
        if !matches!(request, Request::Publish(_)) {
            if self.pace.packet(Instant::now()) {
                self.refused(Refused::PacketRate);
            }
            // The others have their turn: a hundred of these take longer than a message may.
            yield_now().await;
        }
        match request {
            Request::Publish(publish) => self.publish(protocol, publish).await?,
            Request::Subscribe { packet_id, filters } => {
                self.refused(Refused::Subscription);
                protocol.refuse_subscription(packet_id, filters, &mut self.socket.output);
            }
            Request::Unsubscribe { packet_id, filters } => {
                protocol.unsubscribe(packet_id, filters, &mut self.socket.output);
            }
            Request::Ping => protocol.pong(&mut self.socket.output),
            Request::Release { packet_id } => protocol.complete(packet_id, &mut self.socket.output),
            Request::Disconnect { normal } => {
                // MQTT-3.14.4-3
                if normal {
                    self.will = None;
                }
                return Err(End::Left);
            }
        }
        Ok(())
    }

    /// Answers the publishes that are settled already.
    fn answer_settled(&mut self, protocol: &Protocol) -> Result<(), End> {
        while let Some(settled) = self.unanswered.settled_by_now() {
            self.answer(protocol, settled)?;
        }
        Ok(())
    }

    fn answer(&mut self, protocol: &Protocol, settled: Result<Settled, NotStored>) -> Result<(), End> {
        let Ok(settled) = settled else {
            return Err(self.end(protocol, Reason::ImplementationSpecificError));
        };
        if !self.socket.mute {
            protocol.acknowledge(settled.packet_id, settled.answer, &mut self.socket.output);
        }
        Ok(())
    }

    fn end(&mut self, protocol: &Protocol, reason: Reason) -> End {
        if let Some(refused) = protocol::counted(reason) {
            self.refused(refused);
        }
        protocol.goodbye(reason, &mut self.socket.output);
        End::Farewell
    }

    fn refused(&self, refused: Refused) {
        self.shared.ops.refused(refused, self.client);
    }
}

/// Waits until then; has the client left meanwhile?
async fn rest(socket: &Socket, until: Option<Instant>) -> bool {
    if let Some(until) = until {
        sleep_until(until).await;
    }
    socket.peer_has_closed().await
}
