//! The broker source against a broker that says exactly what a test wants.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rollcall_harness::mqtt::{PUBACK, Version, publish};
use rollcall_host::model::Verdict;
use rollcall_host::ops::Ops;
use rollcall_host::source::broker::{Broker, BrokerAddress, BrokerSettings, Slots};
use rollcall_host::source::{self, LogState, Source};
use rollcall_wire::{DeviceId, Kind, Topic};

/// What has not come after this long does not come.
const PATIENCE: Duration = Duration::from_secs(20);

const CONNECT: u8 = 1;
const SUBSCRIBE: u8 = 8;

/// One connection of the source to the broker.
struct Session(TcpStream);

impl Session {
    /// Takes the next connection, welcomes it and grants its subscription.
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
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

fn settings(address: SocketAddr) -> BrokerSettings {
    BrokerSettings {
        address: BrokerAddress::parse(&format!("mqtt://{address}")).unwrap(),
        ca_file: None,
        client_id: "test".to_owned(),
        slots: Slots::all(),
        plain_topic: None,
        receive_max: 10,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_not_be_stored_is_asked_for_again_and_then_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ops = Arc::new(Ops::default());
    let (inbox, mut messages) = source::inbox();
    let broker = Broker::new(settings(listener.local_addr().unwrap()), inbox, ops.clone()).unwrap();
    let running = Box::new(broker).start(LogState::Empty);

    let topic = Topic { device: DeviceId::new("sim-0").unwrap(), kind: Kind::Status }.name();
    let message = publish(Version::V5, 7, &topic, br#"{"status":3}"#, None);
    let sent = message.clone();
    let (first, listener) = tokio::task::spawn_blocking(move || {
        let mut session = Session::accept(&listener);
        session.send(&sent);
        (session, listener)
    })
    .await
    .unwrap();
    // The ingest loop dies with it.
    drop(messages.recv().await.unwrap());
    let second = tokio::task::spawn_blocking(move || {
        assert!(first.rest().is_empty(), "it was acknowledged");
        let mut session = Session::accept(&listener);
        session.send(&message);
        session
    });
    let mut session = second.await.unwrap();
    messages.recv().await.unwrap().ack.settle(Verdict::Accepted);
    let (kind, body) = tokio::task::spawn_blocking(move || session.receive()).await.unwrap();
    assert_eq!((kind, &body[..2]), (PUBACK, &[0, 7][..]));
    assert!(ops.reason().is_none());
    drop(running);
}
