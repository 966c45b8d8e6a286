//! One client's connection: its packets in, its answers out, in one task.
//!
//! Guarantees: its messages enter the inbox in the order in which they came; what arrived whole is handed on
//! even if the client has left meanwhile; answers leave in the order of their publishes (MQTT-4.6.0-2), and
//! only once the ingest loop has settled them. What a connection holds is bounded: one message that waits for
//! the inbox, [`RECEIVE_MAX`] that wait for their verdicts, and a packet that is not whole yet.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::protocol::{
    self, Answer, Hello, NotWelcome, Protocol, Publish, RECEIVE_MAX, Reason, Refusal, Request, packet_length,
};
use super::socket::Socket;
use super::{Connected, Shared};
use crate::model::{Ack, Message, Moment, Retain, Sender, Verdict};
use crate::ops::{Dropped, Refused};
use crate::source::admission::{NotAdmitted, Rights};
use crate::source::gate::Unsettled;

/// A client has this long to send its CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For clients that ask for no keep-alive: a connection that is silent for longer is dropped.
const IDLE_MAX: Duration = Duration::from_secs(u16::MAX as u64);

/// Answers that a client does not read, in bytes; beyond it nothing more is read from the client.
const OUTPUT_MAX: usize = 8 * 1024;

/// While a message waits for room in the inbox, how often is looked whether its client is still there.
const PEER_CHECK: Duration = Duration::from_secs(1);

/// What a client that has left had sent may wait so long for room in the inbox: a store that is away must not
/// make connections pile up that nobody uses.
const LAST_MESSAGES: Duration = Duration::from_secs(10);

/// Serves a client until it leaves, breaks the rules or the gateway closes.
pub(super) async fn serve(stream: TcpStream, client: SocketAddr, shared: Arc<Shared>) {
    let _connected = Connected::new(shared.clone());
    let mut connection = Connection {
        socket: Socket::new(stream),
        client,
        pending: VecDeque::new(),
        rights: Rights::default(),
        shared,
    };
    match timeout(CONNECT_TIMEOUT, connection.welcome()).await {
        Ok(Some((protocol, silence))) => {
            let end = connection.run(protocol, silence).await;
            if let Err(End::Farewell) = end {
                connection.socket.goodbye().await;
            }
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
    pending: VecDeque<Pending>,
    /// What the client may do.
    rights: Rights,
}

/// A publish that is to be answered.
struct Pending {
    packet_id: NonZeroU16,
    verdict: Awaited,
}

enum Awaited {
    /// By the ingest loop.
    Verdict {
        verdict: oneshot::Receiver<Verdict>,
        _unsettled: Unsettled,
    },
    Known(Answer),
}

/// Why a connection ends.
enum End {
    /// The client has left.
    Left,
    /// We close; what is in the output is to be read by the client.
    Farewell,
}

impl Connection {
    /// Waits for a CONNECT and answers it. The protocol, and how long the client may be silent, if it is let in.
    async fn welcome(&mut self) -> Option<(Protocol, Duration)> {
        let length = loop {
            match packet_length(&self.socket.input) {
                Ok(Some(length)) => break length,
                Ok(None) => {}
                Err(_) => {
                    self.refused(Refused::NoConnect);
                    return None;
                }
            }
            self.socket.readable().await.ok()?;
            self.socket.read();
            if self.socket.left {
                return None;
            }
        };
        let (protocol, hello) = match protocol::hello(&self.socket.input[..length]) {
            Ok(hello) => hello,
            Err(NotWelcome::OtherVersion(answer)) => {
                self.refused(Refused::UnsupportedProtocolVersion);
                self.socket.output.extend_from_slice(answer);
                self.socket.goodbye().await;
                return None;
            }
            Err(NotWelcome::Malformed) => {
                self.refused(Refused::NoConnect);
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
            protocol.refuse(refusal, &mut self.socket.output);
            self.socket.goodbye().await;
            return None;
        }
        // MQTT 5 (section 3.1.3.1): a client without an id learns the one that it got.
        let given = (!hello.named).then(|| self.shared.unnamed.fetch_add(1, Ordering::Relaxed));
        protocol.welcome(given.map(|number| format!("unnamed-{number}")), &mut self.socket.output);
        // MQTT-3.1.2-22: one and a half times the keep-alive.
        let silence = match hello.keep_alive_s {
            0 => IDLE_MAX,
            seconds => Duration::from_secs(seconds.into()) * 3 / 2,
        };
        Some((protocol, silence))
    }

    fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let user = hello.user.as_ref().map(|user| user.as_bytes().as_ref());
        let password = hello.password.as_ref().map(AsRef::as_ref);
        let rights = self.shared.admission.admit(user, password, &hello.client_id);
        self.rights = rights.map_err(|reason| match reason {
            NotAdmitted::BadUserNameOrPassword => Refusal::BadUserNameOrPassword,
            NotAdmitted::OtherDevicesClientId => Refusal::OtherDevicesClientId,
        })?;
        if self.shared.open.load(Ordering::SeqCst) { Ok(()) } else { Err(Refusal::ServerUnavailable) }
    }

    async fn run(&mut self, mut protocol: Protocol, silence: Duration) -> Result<(), End> {
        let mut closing = self.shared.closing.subscribe();
        let mut heard = Instant::now();
        loop {
            while self.may_take(&protocol)
                && let Some(request) = self.next_request(&mut protocol)?
            {
                self.handle(&mut protocol, request).await?;
            }
            if self.socket.left {
                return Err(End::Left);
            }
            self.socket.write();
            let may_read = self.may_take(&protocol);
            let may_write = !self.socket.output.is_empty();
            tokio::select! {
                biased;
                verdict = settled(&mut self.pending) => {
                    self.answer(&protocol, verdict)?;
                    self.answer_settled(&protocol)?;
                }
                _ = closing.wait_for(|closing| *closing) => {
                    self.answer_settled(&protocol)?;
                    return Err(self.end(&protocol, Reason::ServerShuttingDown));
                }
                () = self.rights.revoked() => return Err(self.end(&protocol, Reason::NotAuthorized)),
                readable = self.socket.readable(), if may_read => {
                    self.socket.left |= readable.is_err();
                    self.socket.read();
                    heard = Instant::now();
                }
                _ = self.socket.writable(), if may_write => {}
                // A client is not silent while it is not heard, but it is while it does not read.
                () = sleep_until(heard + silence), if may_read || may_write => {
                    return Err(self.end(&protocol, Reason::KeepAliveTimeout));
                }
            }
        }
    }

    /// A client that has left waits for no answers, so none holds back what it had sent.
    fn may_take(&self, protocol: &Protocol) -> bool {
        // A client of MQTT 5 counts for itself; one that does not is cut off by `publish`.
        let bounded = !protocol.announces_receive_maximum();
        let full = bounded && self.pending.len() >= usize::from(RECEIVE_MAX.get());
        self.socket.left || (!full && self.socket.output.len() < OUTPUT_MAX)
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
            Request::Disconnect => return Err(End::Left),
        }
        Ok(())
    }

    /// Hands a message to the ingest loop. One of QoS 0 is not answered: nobody hears what became of it.
    async fn publish(&mut self, protocol: &mut Protocol, publish: Publish) -> Result<(), End> {
        let received = Moment::now();
        if let Some(packet_id) = publish.packet_id
            && !self.socket.left
        {
            if self.pending.len() >= usize::from(RECEIVE_MAX.get()) {
                return Err(self.end(protocol, Reason::ReceiveMaximumExceeded));
            }
            if self.pending.iter().any(|pending| pending.packet_id == packet_id) {
                return self.packet_id_in_use(protocol, packet_id);
            }
        }
        if !self.rights.are_valid() {
            return Err(self.end(protocol, Reason::NotAuthorized));
        }
        if !self.rights.may_publish(&publish.topic) {
            return self.not_authorized(protocol, publish.packet_id);
        }
        let Some(unsettled) = self.shared.gate.take() else {
            // 3.1.1 cannot refuse a message: it stays unanswered until the connection closes.
            if let Some(packet_id) = publish.packet_id
                && protocol.can_refuse()
            {
                self.pending.push_back(Pending { packet_id, verdict: Awaited::Known(Answer::ShuttingDown) });
            }
            return Ok(());
        };
        let (ack, verdict) = Ack::new();
        let sender = match publish.packet_id {
            Some(_) if protocol.can_refuse() => Sender::HearsRefusal,
            _ => Sender::HearsNothing,
        };
        let message = Message {
            topic: (&*publish.topic).into(),
            payload: publish.payload.as_ref().into(),
            retain: if publish.retain { Retain::Yes } else { Retain::No },
            expiry_left_s: publish.expiry_left_s,
            received,
            sender,
            ack,
        };
        if let Err((end, why)) = self.hand_on(protocol, message).await {
            self.drop_rest(protocol, why);
            return Err(end);
        }
        if let Some(packet_id) = publish.packet_id {
            self.pending.push_back(Pending {
                packet_id,
                verdict: Awaited::Verdict { verdict, _unsettled: unsettled },
            });
        }
        Ok(())
    }

    /// MQTT 5 has a word for it (section 3.4.2.1); in 3.1.1 it ends the connection (MQTT-2.3.1-3).
    fn packet_id_in_use(&mut self, protocol: &Protocol, packet_id: NonZeroU16) -> Result<(), End> {
        self.refused(Refused::PacketIdInUse);
        if !protocol.can_refuse() {
            return Err(End::Farewell);
        }
        protocol.acknowledge(packet_id, Answer::PacketIdInUse, &mut self.socket.output);
        Ok(())
    }

    /// MQTT 5 has a word for it; to 3.1.1 an acknowledgement would say that the message was taken, so it ends the
    /// connection (MQTT-3.3.5-2 of 3.1.1).
    fn not_authorized(&mut self, protocol: &Protocol, packet_id: Option<NonZeroU16>) -> Result<(), End> {
        self.refused(Refused::OtherDevicesTopic);
        if !protocol.can_refuse() {
            return Err(End::Farewell);
        }
        self.pending.extend(packet_id.map(|packet_id| {
            let verdict = Awaited::Known(Answer::NotAuthorized);
            Pending { packet_id, verdict }
        }));
        Ok(())
    }

    /// Waits for room in the inbox, and for a client that has left no longer than [`LAST_MESSAGES`]. Who is still
    /// there hears meanwhile what became of earlier messages.
    async fn hand_on(&mut self, protocol: &mut Protocol, message: Message) -> Result<(), (End, Dropped)> {
        let shared = self.shared.clone();
        // One place in the queue for all of the time.
        let mut room = pin!(shared.inbox.reserve());
        let mut gone = self.socket.left;
        while !gone {
            tokio::select! {
                biased;
                place = &mut room => {
                    // The inbox closes only when the process ends.
                    place.map_err(|_| (End::Farewell, Dropped::Draining))?.send(message);
                    return Ok(());
                }
                verdict = settled(&mut self.pending) => {
                    let answered = self.answer(protocol, verdict).and_then(|()| self.answer_settled(protocol));
                    answered.map_err(|end| (end, Dropped::IngestFailed))?;
                    self.socket.write();
                }
                () = sleep(PEER_CHECK) => gone = self.socket.peer_has_closed().await || !self.rights.are_valid(),
            }
        }
        match timeout(LAST_MESSAGES, room).await {
            Ok(Ok(place)) => place.send(message),
            _ => return Err((End::Left, Dropped::ClientLeft)),
        }
        Ok(())
    }

    /// A message found no room in the inbox: it, and what its client had sent after it, is counted as dropped.
    fn drop_rest(&mut self, protocol: &mut Protocol, why: Dropped) {
        let mut messages = 1;
        while let Ok(Some(length)) = packet_length(&self.socket.input)
            && let Ok(request) = protocol.request(&self.socket.input[..length])
        {
            self.socket.consume(length);
            if let Request::Publish(_) = request {
                self.shared.ops.metrics.received.inc();
                messages += 1;
            }
        }
        self.shared.ops.dropped(why, messages);
    }

    /// Answers the publishes that are settled already.
    fn answer_settled(&mut self, protocol: &Protocol) -> Result<(), End> {
        while let Some(pending) = self.pending.front_mut() {
            let verdict = match &mut pending.verdict {
                Awaited::Known(answer) => Ok(*answer),
                Awaited::Verdict { verdict, .. } => match verdict.try_recv() {
                    Ok(verdict) => Ok(answer_of(verdict)),
                    Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                    Err(oneshot::error::TryRecvError::Closed) => Err(NotStored),
                },
            };
            self.answer(protocol, verdict)?;
        }
        Ok(())
    }

    /// Answers the first of the publishes that wait. Only then it is no longer unsettled.
    fn answer(&mut self, protocol: &Protocol, answer: Result<Answer, NotStored>) -> Result<(), End> {
        let Some(Pending { packet_id, verdict }) = self.pending.pop_front() else { return Ok(()) };
        let Ok(answer) = answer else { return Err(self.end(protocol, Reason::ImplementationSpecificError)) };
        if !self.socket.mute {
            protocol.acknowledge(packet_id, answer, &mut self.socket.output);
        }
        drop(verdict);
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

/// The message may not be stored, so it must not be acknowledged, and its connection cannot go on.
struct NotStored;

/// The answer to the first of the publishes that wait; for ever when none does.
async fn settled(pending: &mut VecDeque<Pending>) -> Result<Answer, NotStored> {
    match pending.front_mut().map(|pending| &mut pending.verdict) {
        Some(Awaited::Verdict { verdict, .. }) => verdict.await.map(answer_of).map_err(|_| NotStored),
        Some(Awaited::Known(answer)) => Ok(*answer),
        None => std::future::pending().await,
    }
}

fn answer_of(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Accepted | Verdict::Duplicate | Verdict::Undecided => Answer::Success,
        Verdict::Rejected(rejection) => Answer::Rejected(rejection),
    }
}
