//! What works with a server that holds a pinned key, and with no other.

use embedded_io_async::{Read, Write};
use rollcall_device_tls::{Error, Failure};
use rollcall_harness::random;

use crate::net::{Net, records, run};
use crate::rustls_server::{RustlsServer, ServerKey};
use crate::{pins, random_bytes, with_connection};

#[test]
fn what_is_sent_arrives_and_comes_back_whatever_the_pieces() {
    let mut random = random();
    let key = ServerKey::new();
    for tickets in [0, 4] {
        for piece in [1, 7, 600, usize::MAX] {
            let message = random_bytes(&mut random, 3_000..3_001);
            let net = Net::new(RustlsServer::new(&key, tickets), random.u64(..)).in_pieces(piece);
            let echo = with_connection(&net, pins(&key.pin(), None), async |connection| {
                let (mut rest, mut echo) = (&message[..], Vec::new());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(random.usize(1..=rest.len().min(800)));
                    connection.write_all(now).await.unwrap();
                    connection.flush().await.unwrap();
                    rest = later;
                    let mut read = vec![0; random.usize(1..=300)];
                    while echo.len() + rest.len() < message.len() {
                        let count = connection.read(&mut read).await.unwrap();
                        echo.extend(&read[..count]);
                    }
                }
                echo
            });
            assert!(echo == Some(Ok(message.clone())), "pieces of {piece}: not what was sent came back");
            assert!(net.server.borrow().heard == message);
        }
    }
}

#[test]
fn what_is_not_flushed_is_not_sent() {
    let key = ServerKey::new();
    let net = Net::new(key.server(), 1);
    with_connection(&net, pins(&key.pin(), None), async |connection| {
        connection.write_all(b"not yet").await.unwrap();
        assert!(net.server.borrow().heard.is_empty());
        connection.flush().await.unwrap();
        assert_eq!(net.server.borrow().heard, b"not yet");
        // Nothing is written, so nothing is sent.
        let sent = net.sent.borrow().len();
        connection.flush().await.unwrap();
        assert_eq!(net.sent.borrow().len(), sent);
    })
    .unwrap()
    .unwrap();
}

#[test]
fn a_server_that_closes_in_order_ends_what_is_read() {
    let key = ServerKey::new();
    let net = Net::new(key.server(), 1);
    let ends = with_connection(&net, pins(&key.pin(), None), async |connection| {
        net.server.borrow_mut().close();
        let mut read = [0; 8];
        assert_eq!([connection.read(&mut read).await, connection.read(&mut read).await], [Ok(0), Ok(0)]);
        // Nothing is sent to it any more.
        assert_eq!(connection.write(b"late").await, Ok(4));
        let closed = Err(Error::Failed(Failure::Closed));
        assert_eq!(connection.flush().await, closed);
        assert_eq!(connection.write(b"later").await.map(drop), closed);
    });
    assert_eq!(ends, Some(Ok(())));
}

#[test]
fn another_key_than_the_pinned_one_is_refused_and_nothing_is_sent_to_it() {
    let (key, other) = (ServerKey::new(), ServerKey::new());
    let net = Net::new(key.server(), 1);
    let refused = with_connection(&net, pins(&other.pin(), None), async |_| ());
    assert_eq!(refused, Some(Err(Error::Failed(Failure::WrongKey))));
    assert_eq!(records(&net.sent.borrow()).len(), 1, "more than ClientHello was sent");
}

#[test]
fn the_key_that_a_server_will_have_next_is_taken_as_well() {
    let (now, next) = (ServerKey::new(), ServerKey::new());
    for key in [&now, &next] {
        let net = Net::new(key.server(), 1);
        let pins = pins(&now.pin(), Some(&next.pin()));
        assert_eq!(with_connection(&net, pins, async |_| ()), Some(Ok(())));
    }
}

#[test]
fn a_renewed_certificate_of_the_same_key_is_taken() {
    let key = ServerKey::new();
    // Each of these makes a certificate.
    for server in [key.server(), key.server()] {
        let net = Net::new(server, 1);
        assert_eq!(with_connection(&net, pins(&key.pin(), None), async |_| ()), Some(Ok(())));
    }
}

#[test]
fn one_connection_follows_another_and_two_at_a_time_are_refused() {
    use std::pin::pin;

    use embedded_nal_async::TcpConnect;
    use rollcall_device_tls::{TlsConnect, Tunnel, engine};

    use crate::{REMOTE, TestRng};

    let key = ServerKey::new();
    let net = Net::new(key.server(), 1);
    let tunnel: Tunnel = Tunnel::new();
    let engine = pin!(engine(&tunnel, pins(&key.pin(), None), TestRng(fastrand::Rng::with_seed(1))));
    let tls = TlsConnect::new(&net, &tunnel, engine);
    run(async {
        for message in [&b"one"[..], b"two", b"three"] {
            let mut connection = tls.connect(REMOTE).await.unwrap();
            assert_eq!(tls.connect(REMOTE).await.err(), Some(Error::Busy));
            connection.write_all(message).await.unwrap();
            connection.flush().await.unwrap();
            let mut echo = [0; 8];
            assert_eq!(connection.read(&mut echo).await, Ok(message.len()));
            assert_eq!(&echo[..message.len()], message);
        }
    })
    .unwrap();
}
