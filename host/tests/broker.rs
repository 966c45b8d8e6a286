//! The broker source against a broker that says exactly what a test wants.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rollcall_harness::mqtt::{PUBACK, Version, publish};
use rollcall_host::model::{Message, Verdict};
use rollcall_host::ops::Ops;
use rollcall_host::source::broker::{Broker, BrokerAddress, BrokerSettings, Slots};
use rollcall_host::source::{self, LogState, RunningSource, Source};
use rollcall_wire::{DeviceId, Kind, Topic};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::mpsc;
use tokio::task::block_in_place;

/// What has not come after this long does not come.
const PATIENCE: Duration = Duration::from_secs(20);

const CONNECT: u8 = 1;
const SUBSCRIBE: u8 = 8;

/// One connection of the source to the broker.
struct Session<S>(S);

/// Takes the next connection.
fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Session<TcpStream> {
    /// Takes the next connection, welcomes it and grants its subscription.
    fn accept(listener: &TcpListener) -> Self {
        Self::welcome(accept(listener))
    }
}

impl<S: Read + Write> Session<S> {
    fn welcome(stream: S) -> Self {
        let mut session = Self(stream);
        assert_eq!(session.receive().0, CONNECT);
        session.send(&[0x20, 3, 1, 0, 0]);
        let (kind, body) = session.receive();
        assert_eq!(kind, SUBSCRIBE);
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("rollcall/+/+/status") && text.contains("rollcall/+/+/presence"), "{text}");
        // Not the one to presence: that is no reason not to count.
        session.send(&[0x90, 5, body[0], body[1], 0, 1, 0x87]);
        session
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next packet: its kind and body, which is short.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        assert!(head[1] < 0x80, "longer than a test expects");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).unwrap();
        (head[0] >> 4, body)
    }

    /// Waits until the peer has closed; what it says until then.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the connection is still open: {error}"),
        }
    }
}

/// The source, and what it hands on.
struct Taking {
    ops: Arc<Ops>,
    messages: mpsc::Receiver<Message>,
    running: Box<dyn RunningSource>,
}

/// Takes messages from brokers, which are tried in this order.
fn start(brokers: &[String], ca_file: Option<PathBuf>) -> Taking {
    let ops = Arc::new(Ops::default());
    let (inbox, messages) = source::inbox();
    let settings = BrokerSettings {
        brokers: brokers.iter().map(|broker| BrokerAddress::parse(broker).unwrap()).collect(),
        ca_file,
        client_id: "test".to_owned(),
        slots: Slots::all(),
        plain_topic: None,
        receive_max: 10,
    };
    let broker = Broker::new(settings, inbox, ops.clone()).unwrap();
    Taking { ops, messages, running: Box::new(broker).start(LogState::Empty) }
}

fn listen(address: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind(address).unwrap();
    let url = url(listener.local_addr().unwrap());
    (listener, url)
}

fn url(address: SocketAddr) -> String {
    format!("mqtt://{address}")
}

/// A broker that does not run: no other test takes a port there.
fn nobody() -> String {
    listen("127.0.0.2:0").1
}

fn sample(packet_id: u16) -> Vec<u8> {
    let topic = Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name();
    publish(Version::V5, packet_id, &topic, br#"{"status":3}"#, None)
}

impl Taking {
    /// A message goes all the way, and is acknowledged once it is stored.
    async fn take_one<S: Read + Write>(&mut self, session: &mut Session<S>, packet_id: u16) {
        block_in_place(|| session.send(&sample(packet_id)));
        self.messages.recv().await.unwrap().ack.settle(Verdict::Accepted);
        let (kind, body) = block_in_place(|| session.receive());
        assert_eq!((kind, &body[..2]), (PUBACK, &packet_id.to_be_bytes()[..]));
        assert!(self.ops.reason().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_not_be_stored_is_asked_for_again_and_then_acknowledged() {
    // Only the broker that delivered it has it: the other one is not asked.
    let ((listener, first), second) = (listen("127.0.0.1:0"), nobody());
    let mut taking = start(&[first, second], None);
    let mut session = block_in_place(|| Session::accept(&listener));
    session.send(&sample(7));
    // The ingest loop dies with it.
    drop(taking.messages.recv().await.unwrap());
    let mut session = block_in_place(|| {
        assert!(session.rest().is_empty(), "it was acknowledged");
        Session::accept(&listener)
    });
    taking.take_one(&mut session, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_literal_is_an_address() {
    let (listener, url) = listen("[::1]:0");
    assert!(url.starts_with("mqtt://[::1]:"), "{url}");
    let mut taking = start(&[url], None);
    let mut session = block_in_place(|| Session::accept(&listener));
    taking.take_one(&mut session, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_literal_is_a_name_that_a_certificate_can_be_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let init = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["tls", "init", "--name", "::1", "--dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let (listener, url) = listen("[::1]:0");
    let mut taking = start(&[url.replace("mqtt:", "mqtts:")], Some(file("ca.pem")));
    let mut session = block_in_place(|| {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        Session::welcome(StreamOwned::new(connection, accept(&listener)))
    });
    taking.take_one(&mut session, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_or_says_nothing_is_passed_over() {
    let (silent, (listener, last)) = (listen("127.0.0.1:0"), listen("127.0.0.1:0"));
    let mut taking = start(&[nobody(), silent.1, last], None);
    let mut session = block_in_place(|| Session::accept(&listener));
    // The silent one was asked before.
    block_in_place(|| assert_eq!(Session(accept(&silent.0)).receive().0, CONNECT));
    taking.take_one(&mut session, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_broker_delivered_is_never_acknowledged_to_another() {
    let ((first, first_url), (second, second_url)) = (listen("127.0.0.1:0"), listen("127.0.0.1:0"));
    let mut taking = start(&[first_url, second_url], None);
    let mut session = block_in_place(|| Session::accept(&first));
    session.send(&sample(7));
    let before = taking.messages.recv().await.unwrap();
    drop(session);
    let mut session = block_in_place(|| Session::accept(&second));
    // The same packet id, and another message: an acknowledgement of the first would be one of it, and one too many.
    block_in_place(|| session.send(&sample(7)));
    let after = taking.messages.recv().await.unwrap();
    before.ack.settle(Verdict::Accepted);
    after.ack.settle(Verdict::Accepted);
    let (kind, body) = block_in_place(|| session.receive());
    assert_eq!((kind, &body[..2]), (PUBACK, &[0, 7][..]));
    taking.take_one(&mut session, 8).await;
    // Back to the first: it has kept what it did not see acknowledged.
    drop(session);
    let mut session = block_in_place(|| Session::accept(&first));
    taking.take_one(&mut session, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_drains_acknowledges_what_it_took_and_says_goodbye() {
    let (listener, url) = listen("127.0.0.1:0");
    let mut taking = start(&[url], None);
    let mut session = block_in_place(|| Session::accept(&listener));
    session.send(&sample(7));
    let message = taking.messages.recv().await.unwrap();
    let drained = tokio::spawn(taking.running.drain());
    message.ack.settle(Verdict::Accepted);
    drained.await.unwrap();
    let rest = block_in_place(|| session.rest());
    assert_eq!(rest, [PUBACK << 4, 2, 0, 7, 0xE0, 0]);
}
