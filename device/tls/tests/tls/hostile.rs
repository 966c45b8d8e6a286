//! Servers that do not prove who they are, and servers that break off: nothing of ours is sent to any of them.

use embedded_io_async::{Read, Write};
use rollcall_device_tls::{Error, Failure};

use crate::net::{Cut, Net, records};
use crate::own_server::{ALERT, APPLICATION_DATA, HANDSHAKE, Message, OwnServer, Packing, honest};
use crate::rustls_server::ServerKey;
use crate::{pins, with_connection};

/// What a connection to `server` fails with, when it has sent it nothing but ClientHello.
fn failure(server: OwnServer, key: &ServerKey) -> Failure {
    let net = Net::new(server, 1);
    let outcome = with_connection(&net, pins(&key.pin(), None), async |_| ());
    assert_eq!(records(&net.sent.borrow()).len(), 1, "more than ClientHello was sent");
    match outcome {
        Some(Err(Error::Failed(failure))) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_without_proof_is_refused_by_name_and_nothing_is_sent_to_it() {
    use Message::{
        Certificate, Extensions, Finished, FinishedWrongly, Raw, Verify, VerifyAs, VerifyByAnother,
        VerifyOfAnother,
    };
    let (key, other) = (ServerKey::new(), ServerKey::new());
    let (genuine, of_other) = (key.certificate("broker.example"), other.certificate("broker.example"));
    let one = |certificate: &[u8]| Certificate(vec![certificate.to_vec()]);
    let mut damaged = genuine.clone();
    damaged.truncate(genuine.len() - 1);
    let cases = [
        (vec![Extensions, Finished], Failure::Unproved),
        (vec![Finished], Failure::Unproved),
        (vec![Extensions, one(&genuine), Finished], Failure::Unproved),
        (vec![Extensions, Verify, Finished], Failure::Unproved),
        (vec![Extensions, Verify, one(&genuine), Finished], Failure::Unproved),
        (vec![Extensions, one(&genuine), VerifyByAnother, Finished], Failure::Signature),
        (vec![Extensions, one(&genuine), VerifyOfAnother, Finished], Failure::Signature),
        (vec![Extensions, one(&genuine), VerifyAs(0x0807), Finished], Failure::Signature),
        (vec![Extensions, one(&genuine), Verify, Verify, Finished], Failure::Unproved),
        (vec![Extensions, one(&genuine), one(&genuine), Verify, Finished], Failure::Certificate),
        (vec![Extensions, one(&genuine), Verify, one(&of_other), Finished], Failure::Certificate),
        (vec![Extensions, one(&of_other), Verify, Finished], Failure::WrongKey),
        (
            vec![Extensions, Certificate(vec![of_other.clone(), genuine.clone()]), Verify, Finished],
            Failure::WrongKey,
        ),
        (vec![Extensions, Certificate(Vec::new()), Verify, Finished], Failure::Certificate),
        (vec![Extensions, one(b""), Verify, Finished], Failure::Certificate),
        (vec![Extensions, one(b"no certificate"), Verify, Finished], Failure::Certificate),
        (vec![Extensions, one(&damaged), Verify, Finished], Failure::Certificate),
        (vec![Extensions, one(&genuine), Verify, FinishedWrongly], Failure::Handshake),
        (vec![Extensions, one(&genuine), Verify, Raw(vec![24, 0, 0, 1, 0])], Failure::Handshake),
        (vec![Extensions, one(&genuine), Verify, Raw(vec![4, 0, 0, 1, 0])], Failure::Handshake),
        (vec![Extensions, one(&genuine), Verify, Raw(vec![2, 0, 0, 1, 0])], Failure::Handshake),
        (vec![Extensions, one(&genuine), Verify, Raw(vec![99, 0, 0, 0])], Failure::Handshake),
    ];
    for (messages, expected) in cases {
        for packing in [Packing::OneEach, Packing::Together] {
            let mut server = OwnServer::new(&key, messages.clone());
            server.packing = packing;
            assert_eq!(failure(server, &key), expected, "{messages:?} {packing:?}");
        }
    }
}

#[test]
fn an_honest_server_is_taken_also_when_it_asks_for_a_certificate() {
    let key = ServerKey::new();
    let certificate = key.certificate("broker.example");
    let mut asking = honest(&certificate);
    asking.insert(1, Message::Request);
    let mut changing = honest(&certificate);
    changing.insert(0, Message::Plain(vec![20, 3, 3, 0, 1, 1]));
    for messages in [honest(&certificate), asking, changing] {
        for packing in [Packing::OneEach, Packing::Together] {
            let mut server = OwnServer::new(&key, messages.clone());
            server.packing = packing;
            let net = Net::new(server, 1);
            let opened = with_connection(&net, pins(&key.pin(), None), async |connection| {
                connection.write_all(b"hello").await.unwrap();
                connection.flush().await.unwrap();
            });
            assert_eq!(opened, Some(Ok(())), "{messages:?}");
            assert_eq!(net.server.borrow().data, b"hello");
        }
    }
}

#[test]
fn a_record_that_may_not_come_is_refused() {
    let key = ServerKey::new();
    let certificate = key.certificate("broker.example");
    let record = |kind: u8, body: &[u8]| {
        let length = (body.len() as u16).to_be_bytes();
        Message::Plain([&[kind, 3, 3, length[0], length[1]], body].concat())
    };
    let cases = [
        (Message::Record(0, Vec::new()), Failure::Record),
        (Message::Record(0, vec![0; 40]), Failure::Record),
        (Message::Record(APPLICATION_DATA, b"too early".to_vec()), Failure::Record),
        (Message::Record(20, vec![1]), Failure::Record),
        (Message::Record(ALERT, vec![2, 40]), Failure::Alert(None)),
        (Message::Record(ALERT, vec![2]), Failure::Handshake),
        (record(ALERT, &[2, 40]), Failure::Alert(Some(40))),
        (record(ALERT, &[1, 0]), Failure::Alert(Some(0))),
        (record(ALERT, &[2]), Failure::Record),
        (record(HANDSHAKE, &[8, 0, 0, 2, 0, 0]), Failure::Record),
        (record(20, &[2]), Failure::Record),
        (record(20, &[1, 1]), Failure::Record),
        (record(99, &[1]), Failure::Record),
        (record(APPLICATION_DATA, &[0; 16]), Failure::Record),
        (record(APPLICATION_DATA, &[0; 17]), Failure::Record),
        (record(APPLICATION_DATA, &[0; 2044]), Failure::RecordTooLong(2044)),
        (Message::Plain(vec![APPLICATION_DATA, 3, 1, 0, 17]), Failure::Record),
    ];
    for (bad, expected) in cases {
        for at in 0..4 {
            let mut messages = honest(&certificate);
            messages.insert(at, bad.clone());
            assert_eq!(failure(OwnServer::new(&key, messages), &key), expected, "{bad:?} before {at}");
        }
    }
    let mut twice = honest(&certificate);
    twice.insert(1, record(20, &[1]));
    twice.insert(1, record(20, &[1]));
    assert_eq!(failure(OwnServer::new(&key, twice), &key), Failure::Record);
}

#[test]
fn a_server_hello_that_is_none_is_refused() {
    let key = ServerKey::new();
    // RFC 8446, section 4.1.3: what HelloRetryRequest has for its random bytes.
    let retry = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let again = [
        &[2, 0, 0, 52, 3, 3][..],
        &retry,
        &[0, 0x13, 1, 0, 0, 12],
        &[0, 0x2b, 0, 2, 3, 4, 0, 0x33, 0, 2, 0, 0x17],
    ];
    let old = [&[2, 0, 0, 40, 3, 3][..], &[9; 32], &[0, 0xc0, 0x2b, 0, 0, 0]];
    for hello in [
        again.concat(),
        old.concat(),
        vec![2, 0, 0, 0],
        vec![2, 0, 0, 9],
        vec![8, 0, 0, 2, 0, 0],
        vec![1; 60],
    ] {
        let mut server = OwnServer::new(&key, Vec::new());
        server.hello = Some(hello);
        assert_eq!(failure(server, &key), Failure::Handshake);
    }
}

#[test]
fn a_handshake_of_more_records_than_its_messages_need_is_refused() {
    let key = ServerKey::new();
    let mut messages = honest(&key.certificate("broker.example"));
    messages.splice(..0, (0..100).map(|_| Message::Extensions));
    assert_eq!(failure(OwnServer::new(&key, messages), &key), Failure::Handshake);
}

#[test]
fn a_message_over_two_records_is_refused() {
    let key = ServerKey::new();
    let messages = honest(&key.certificate("broker.example"));
    for at in [1, 3, 5, 100, 300] {
        let mut server = OwnServer::new(&key, messages.clone());
        server.packing = Packing::Split(at);
        assert_eq!(failure(server, &key), Failure::Handshake, "split every {at} bytes");
    }
}

#[test]
fn a_server_that_stalls_or_closes_at_any_byte_of_the_handshake_gets_nothing() {
    let key = ServerKey::new();
    let messages = honest(&key.certificate("broker.example"));
    let mut at = 0;
    loop {
        for cut in [Cut::Stalls, Cut::Closes] {
            let net = Net::new(OwnServer::new(&key, messages.clone()), 1);
            net.cut.set(Some((at, cut)));
            let outcome = with_connection(&net, pins(&key.pin(), None), async |_| ());
            match (cut, outcome) {
                (_, Some(Ok(()))) => return assert!(at > 600, "{at} bytes cannot be all"),
                (Cut::Stalls, None) | (Cut::Closes, Some(Err(Error::Closed))) => {}
                (_, other) => panic!("{cut:?} at {at}: {other:?}"),
            }
            assert_eq!(records(&net.sent.borrow()).len(), 1, "more than ClientHello was sent");
        }
        at += 1;
    }
}

#[test]
fn what_comes_after_the_handshake_is_data_or_an_end() {
    let key = ServerKey::new();
    let ticket = [&[4, 0, 0, 0x15][..], &[0; 8], &[0, 0, 8], b"a ticket", &[0, 0]].concat();
    let cases = [
        (vec![(HANDSHAKE, ticket.clone()), (APPLICATION_DATA, b"hi".to_vec())], Ok(2)),
        (
            vec![(HANDSHAKE, ticket), (APPLICATION_DATA, Vec::new()), (APPLICATION_DATA, b"hi".to_vec())],
            Ok(2),
        ),
        (vec![(ALERT, vec![1, 0])], Ok(0)),
        (vec![(ALERT, vec![2, 20])], Err(Failure::Alert(None))),
        (vec![(ALERT, vec![])], Err(Failure::Handshake)),
        // KeyUpdate, EncryptedExtensions, Certificate, Finished: the last three make embedded-tls panic.
        (vec![(HANDSHAKE, vec![24, 0, 0, 1, 0])], Err(Failure::Record)),
        (vec![(HANDSHAKE, vec![8, 0, 0, 2, 0, 0])], Err(Failure::Record)),
        (vec![(HANDSHAKE, vec![11, 0, 0, 4, 0, 0, 0, 0])], Err(Failure::Record)),
        (vec![(HANDSHAKE, [&[20, 0, 0, 32][..], &[1; 32]].concat())], Err(Failure::Record)),
        (vec![(0, Vec::new())], Err(Failure::Record)),
        (vec![(0, vec![0; 9])], Err(Failure::Record)),
        (vec![(20, vec![1])], Err(Failure::Record)),
    ];
    for (after, expected) in cases {
        let mut server = OwnServer::new(&key, honest(&key.certificate("broker.example")));
        server.after = after.clone();
        let net = Net::new(server, 1);
        let read = with_connection(&net, pins(&key.pin(), None), async |connection| {
            let mut bytes = [0; 8];
            let read = connection.read(&mut bytes).await;
            // An error stays one.
            assert!(read.is_ok() || connection.read(&mut bytes).await == read);
            assert!(read.is_ok() || connection.write(b"more").await == read);
            assert!(read.is_ok() || connection.flush().await == read.map(drop));
            read
        });
        assert_eq!(read, Some(Ok(expected.map_err(Error::Failed))), "{after:?}");
    }
}

#[test]
fn nobody_between_can_end_or_change_a_connection_unnoticed() {
    let key = ServerKey::new();
    let alerts: [&[u8]; 6] = [
        &[ALERT, 3, 3, 0, 2, 1, 0],
        &[ALERT, 3, 3, 0, 2, 2, 20],
        &[HANDSHAKE, 3, 3, 0, 4, 20, 0, 0, 0],
        &[20, 3, 3, 0, 1, 1],
        &[APPLICATION_DATA, 3, 3, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0; 40],
    ];
    for forged in alerts {
        let mut server = OwnServer::new(&key, honest(&key.certificate("broker.example")));
        server.plain_after = forged.to_vec();
        let net = Net::new(server, 1);
        let read = with_connection(&net, pins(&key.pin(), None), async |connection| {
            connection.read(&mut [0; 8]).await
        });
        assert_eq!(read, Some(Ok(Err(Error::Failed(Failure::Record)))), "{forged:?}");
    }
}
