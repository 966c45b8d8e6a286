//! Handshakes with random faults, each at most a connection that is refused.

use embedded_io_async::{Read, Write};
use rollcall_device_tls::Error;
use rollcall_harness::random;

use crate::net::{Net, Server, records};
use crate::own_server::{Message, OwnServer, Packing, honest};
use crate::rustls_server::ServerKey;
use crate::{pins, random_bytes, with_connection};

const HANDSHAKES: usize = 20_000;

/// A random fault or two.
fn spoil(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..3) {
        let at = random.usize(..bytes.len().max(1));
        match random.u8(0..7) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.u8(0..8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap();
                }
            }
            3 => bytes.truncate(at),
            4 => bytes.insert(at.min(bytes.len()), random.u8(..)),
            5 => {
                let copy = bytes[at.min(bytes.len())..].to_vec();
                bytes.extend(&copy[..copy.len().min(40)]);
            }
            _ => {
                if !bytes.is_empty() {
                    bytes.remove(at);
                }
            }
        }
    }
}

#[test]
fn a_handshake_with_faults_never_opens_for_who_does_not_hold_the_key_and_never_panics() {
    let mut random = random();
    let key = ServerKey::new();
    let certificate = key.certificate("broker.example");
    let mut opened = 0;
    for number in 0..HANDSHAKES {
        let holds_key = number % 2 == 0;
        let mut messages = honest(&certificate);
        if !holds_key {
            messages[2] = Message::VerifyByAnother;
        }
        let mut server = OwnServer::new(&key, messages);
        server.packing = *random.choice(&[Packing::OneEach, Packing::Together]).unwrap();
        let (mut faults, mut passed, spoiled) = (random.fork(), 0, random.usize(0..5));
        // ServerHello is the first.
        server.spoil = Some(Box::new(move |bytes| {
            if passed == spoiled {
                spoil(&mut faults, bytes);
            }
            passed += 1;
        }));
        server.after = vec![(random.u8(20..25), random_bytes(&mut random, 1..60))];
        let net = Net::new(server, random.u64(..));
        let outcome = with_connection(&net, pins(&key.pin(), None), async |connection| {
            connection.write_all(b"secret").await.ok();
            connection.flush().await.ok();
            connection.read(&mut [0; 64]).await.ok();
        });
        let is_open = matches!(outcome, Some(Ok(()))) || net.server.borrow().is_open;
        opened += usize::from(is_open);
        assert!(holds_key || !is_open, "handshake {number}");
        assert!(!matches!(outcome, Some(Err(Error::Busy))), "handshake {number}");
        assert!(
            is_open || records(&net.sent.borrow()).len() == 1,
            "handshake {number}: more than ClientHello"
        );
    }
    // Faults that change nothing that matters.
    assert!(opened < HANDSHAKES / 4, "{opened} of {HANDSHAKES} opened");
}

/// Changes bytes on their way.
struct Between<S> {
    server: S,
    random: fastrand::Rng,
    after: usize,
}

impl<S: Server> Server for Between<S> {
    fn accept(&mut self) {
        self.server.accept();
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.server.hear(bytes);
    }

    fn say(&mut self) -> Vec<u8> {
        let mut bytes = self.server.say();
        if !bytes.is_empty() {
            if self.after == 0 {
                spoil(&mut self.random, &mut bytes);
            }
            self.after = self.after.saturating_sub(1);
        }
        bytes
    }
}

#[test]
fn bytes_that_were_changed_on_their_way_end_the_connection_and_nothing_else() {
    let mut random = random();
    let key = ServerKey::new();
    for number in 0..2_000 {
        let after = number % 3;
        let server = Between { server: key.server(), random: random.fork(), after };
        let net = Net::new(server, random.u64(..));
        with_connection(&net, pins(&key.pin(), None), async |connection| {
            for message in ["one", "two", "three"] {
                if connection.write_all(message.as_bytes()).await.is_err()
                    || connection.flush().await.is_err()
                {
                    return;
                }
                let mut read = [0; 8];
                let Ok(count) = connection.read(&mut read).await else { return };
                assert!(message.as_bytes().starts_with(&read[..count]), "changed bytes were read");
            }
        });
        assert!(b"onetwothree".starts_with(&net.server.borrow().server.heard));
    }
}
