//! Futures that are dropped at an await: the next goes on, and no record is sealed twice.

use std::pin::pin;

use embedded_io_async::{Read, Write};
use embedded_nal_async::TcpConnect;
use rollcall_device_tls::{TlsConnect, Tunnel, engine};
use rollcall_harness::random;

use crate::net::{Net, records, run, run_for};
use crate::own_server::{OwnServer, honest};
use crate::rustls_server::ServerKey;
use crate::{REMOTE, TestRng, pins, random_bytes};

/// Runs what `attempt` makes, and drops it at a random await again and again until it is done.
fn in_attempts<O>(random: &mut fastrand::Rng, mut attempt: impl AsyncFnMut() -> O) -> O {
    for _ in 0..10_000 {
        let polls = random.usize(1..12);
        if let Some(output) = run_for(polls, attempt()) {
            return output;
        }
    }
    panic!("it never comes to an end")
}

#[test]
fn reads_writes_and_flushes_that_are_dropped_lose_nothing_and_repeat_nothing() {
    let mut random = random();
    let key = ServerKey::new();
    for piece in [1, 30, 700] {
        let server = OwnServer::new(&key, honest(&key.certificate("broker.example")));
        let net = Net::new(server, random.u64(..)).in_pieces(piece);
        let tunnel: Tunnel = Tunnel::new();
        let engine = pin!(engine(&tunnel, pins(&key.pin(), None), TestRng(random.fork())));
        let tls = TlsConnect::new(&net, &tunnel, engine);
        let mut connection = run(tls.connect(REMOTE)).unwrap().unwrap();
        let (mut written, mut told, mut read) = (Vec::<u8>::new(), Vec::new(), Vec::<u8>::new());
        for _ in 0..60 {
            let out = random_bytes(&mut random, 1..900);
            let mut rest = &out[..];
            while !rest.is_empty() {
                let count = in_attempts(&mut random, async || connection.write(rest).await).unwrap();
                rest = &rest[count..];
            }
            written.extend(&out);
            if random.bool() {
                in_attempts(&mut random, async || connection.flush().await).unwrap();
                assert!(net.server.borrow().data == written, "what was flushed is not what came");
            }
            let answer = random_bytes(&mut random, 1..900);
            net.server.borrow_mut().tell(&answer);
            told.extend(answer);
            while read.len() < told.len() {
                let mut part = vec![0; random.usize(1..400)];
                let count = in_attempts(&mut random, async || connection.read(&mut part).await).unwrap();
                read.extend(&part[..count]);
            }
            assert!(read == told, "what was read is not what was told");
        }
        in_attempts(&mut random, async || connection.flush().await).unwrap();
        assert!(net.server.borrow().data == written);
        // The server opened each record under the next number and none else: ClientHello is not among them.
        assert_eq!(net.server.borrow().records as usize, records(&net.sent.borrow()).len() - 1);
    }
}

#[test]
fn a_handshake_that_is_dropped_at_any_await_leaves_the_next_one_whole() {
    let mut random = random();
    let key = ServerKey::new();
    let server = OwnServer::new(&key, honest(&key.certificate("broker.example")));
    let net = Net::new(server, random.u64(..)).in_pieces(200);
    let tunnel: Tunnel = Tunnel::new();
    let engine = pin!(engine(&tunnel, pins(&key.pin(), None), TestRng(random.fork())));
    let tls = TlsConnect::new(&net, &tunnel, engine);
    let mut keys_seen = std::collections::HashSet::new();
    for polls in 1.. {
        net.sent.borrow_mut().clear();
        let is_done = run_for(polls, tls.connect(REMOTE)).is_some();
        // ClientHello's random number, which comes before the key: a new one each time.
        let sent = net.sent.borrow().clone();
        assert!(sent.len() < 43 || keys_seen.insert(sent[11..43].to_vec()), "the same keys twice");
        run(async {
            let mut connection = tls.connect(REMOTE).await.unwrap();
            connection.write_all(b"whole").await.unwrap();
            connection.flush().await.unwrap();
        })
        .unwrap();
        assert_eq!(net.server.borrow().data, b"whole");
        if is_done {
            return assert!(polls > 5, "{polls} polls cannot be all");
        }
    }
}
