//! A server of the tests' own, which can leave out, repeat and falsify what it likes, under keys that are right.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes128Gcm, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::{EncodedPoint, PublicKey, SecretKey};
use sha2::{Digest, Sha256};

use crate::net::Server;
use crate::rustls_server::ServerKey;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// What it sends after ServerHello, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Extensions,
    Request,
    /// These certificates.
    Certificate(Vec<Vec<u8>>),
    /// Signed by the server's key, as it should be.
    Verify,
    /// Signed by another.
    VerifyByAnother,
    /// Signed by the server's key, in another handshake.
    VerifyOfAnother,
    /// With the number of another kind of signature.
    VerifyAs(u16),
    Finished,
    FinishedWrongly,
    /// A handshake message of whatever kind.
    Raw(Vec<u8>),
    /// An encrypted record with this inner type, when all messages before it have been sent.
    Record(u8, Vec<u8>),
    /// A record as it is.
    Plain(Vec<u8>),
}

/// How messages share records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    OneEach,
    Together,
    Split(usize),
}

/// Changes bytes.
pub(crate) type Spoil = Box<dyn FnMut(&mut Vec<u8>)>;

pub(crate) struct OwnServer {
    key: SigningKey,
    pub(crate) messages: Vec<Message>,
    pub(crate) packing: Packing,
    /// Applied to each handshake message before it becomes part of the transcript.
    pub(crate) spoil: Option<Spoil>,
    /// Sent once the device's Finished is there, as encrypted records of these types.
    pub(crate) after: Vec<(u8, Vec<u8>)>,
    /// Sent then too, as it is.
    pub(crate) plain_after: Vec<u8>,
    /// Instead of ServerHello.
    pub(crate) hello: Option<Vec<u8>>,
    heard: Vec<u8>,
    said: Vec<u8>,
    keys: Option<Keys>,
    /// What the device sent under the keys of data, once it had proved that it has them.
    pub(crate) data: Vec<u8>,
    /// How many records there were.
    pub(crate) records: u64,
    pub(crate) is_open: bool,
}

struct Keys {
    transcript: Sha256,
    handshake: [u8; 32],
    client: Direction,
    server: Direction,
    client_secret: [u8; 32],
    server_secret: [u8; 32],
    /// Those of data.
    next: Option<(Direction, Direction)>,
}

struct Direction {
    cipher: Aes128Gcm,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new(secret: &[u8; 32]) -> Self {
        let (mut key, mut iv) = ([0; 16], [0; 12]);
        expand(secret, "key", &[], &mut key);
        expand(secret, "iv", &[], &mut iv);
        Self { cipher: Aes128Gcm::new(&key.into()), iv, sequence: 0 }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, of)| *byte ^= of);
        self.sequence += 1;
        nonce
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        // No type at all: a record with nothing in it.
        if kind == 0 {
            inner.pop();
        }
        let length = ((inner.len() + 16) as u16).to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, length[0], length[1]];
        let nonce = self.nonce();
        let tag =
            self.cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), &header, &mut inner).unwrap();
        [&header[..], &inner, &tag].concat()
    }

    /// The type and content of a record that was sealed under the next sequence number.
    fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let (header, body) = record.split_at(5);
        let (inner, tag) = body.split_at(body.len() - 16);
        let (nonce, mut inner) = (self.nonce(), inner.to_vec());
        let opened =
            self.cipher.decrypt_in_place_detached(Nonce::from_slice(&nonce), header, &mut inner, tag.into());
        opened.expect("a record was not sealed under the next number");
        let kind = inner.pop().unwrap();
        (kind, inner)
    }
}

fn expand(secret: &[u8; 32], label: &str, context: &[u8], out: &mut [u8]) {
    let label = format!("tls13 {label}");
    let mut info = (out.len() as u16).to_be_bytes().to_vec();
    info.push(label.len() as u8);
    info.extend(label.as_bytes());
    info.push(context.len() as u8);
    info.extend(context);
    Hkdf::<Sha256>::from_prk(secret).unwrap().expand(&info, out).unwrap();
}

fn derive(secret: &[u8; 32], label: &str, transcript: &Sha256) -> [u8; 32] {
    let mut out = [0; 32];
    expand(secret, label, &transcript.clone().finalize(), &mut out);
    out
}

fn extract(salt: &[u8; 32], secret: &[u8]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(Some(salt), secret).0.into()
}

/// A handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

fn finished(secret: &[u8; 32], transcript: &Sha256) -> Vec<u8> {
    let mut key = [0; 32];
    expand(secret, "finished", &[], &mut key);
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
    mac.update(&transcript.clone().finalize());
    message(20, &mac.finalize().into_bytes())
}

fn verify(key: &SigningKey, scheme: u16, transcript: &Sha256) -> Vec<u8> {
    let signed =
        [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &transcript.clone().finalize()].concat();
    let signature: DerSignature = key.sign(&signed);
    let signature = signature.as_bytes();
    let length = signature.len() as u16;
    message(15, &[&scheme.to_be_bytes()[..], &length.to_be_bytes(), signature].concat())
}

/// What an honest server sends.
pub(crate) fn honest(certificate: &[u8]) -> Vec<Message> {
    let certificate = Message::Certificate(vec![certificate.to_vec()]);
    vec![Message::Extensions, certificate, Message::Verify, Message::Finished]
}

impl OwnServer {
    pub(crate) fn new(key: &ServerKey, messages: Vec<Message>) -> Self {
        Self {
            key: key.signing_key(),
            messages,
            packing: Packing::OneEach,
            spoil: None,
            after: Vec::new(),
            plain_after: Vec::new(),
            hello: None,
            heard: Vec::new(),
            said: Vec::new(),
            keys: None,
            data: Vec::new(),
            records: 0,
            is_open: false,
        }
    }

    /// Sends `content` in a record of data.
    pub(crate) fn tell(&mut self, content: &[u8]) {
        let keys = self.keys.as_mut().unwrap();
        let record = keys.server.seal(APPLICATION_DATA, content);
        self.said.extend(record);
    }

    fn greet(&mut self, hello: &[u8]) {
        let marker = [0, 0x33, 0, 0x47, 0, 0x45, 0, 0x17, 0, 0x41];
        let at = hello.windows(marker.len()).position(|bytes| bytes == marker).unwrap() + marker.len();
        let theirs = PublicKey::from_sec1_bytes(&hello[at..][..65]).unwrap();
        let ours = SecretKey::from_slice(&[7; 32]).unwrap();
        let shared = p256::ecdh::diffie_hellman(ours.to_nonzero_scalar(), theirs.as_affine());
        let share = EncodedPoint::from(ours.public_key());
        let extensions =
            [&[0, 0x2b, 0, 2, 3, 4, 0, 0x33, 0, 69, 0, 0x17, 0, 65][..], share.as_bytes()].concat();
        let mut body = [&[3, 3][..], &[9; 32], &[0, 0x13, 1, 0]].concat();
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(&extensions);
        let mut server_hello = self.hello.clone().unwrap_or_else(|| message(2, &body));
        if let Some(spoil) = &mut self.spoil {
            spoil(&mut server_hello);
        }
        let mut transcript = Sha256::new();
        transcript.update(&hello[5..]);
        transcript.update(&server_hello);
        let early = extract(&[0; 32], &[0; 32]);
        let handshake = extract(&derive(&early, "derived", &Sha256::new()), shared.raw_secret_bytes());
        let (client_secret, server_secret) = (
            derive(&handshake, "c hs traffic", &transcript),
            derive(&handshake, "s hs traffic", &transcript),
        );
        self.keys = Some(Keys {
            transcript,
            handshake,
            client: Direction::new(&client_secret),
            server: Direction::new(&server_secret),
            client_secret,
            server_secret,
            next: None,
        });
        self.said.extend([HANDSHAKE, 3, 3]);
        self.said.extend((server_hello.len() as u16).to_be_bytes());
        self.said.extend(server_hello);
        self.flight();
    }

    fn flight(&mut self) {
        let mut waiting = Vec::new();
        for step in self.messages.clone() {
            let keys = self.keys.as_mut().unwrap();
            let mut bytes = match step {
                Message::Extensions => message(8, &[0, 0]),
                Message::Request => message(13, &[0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]),
                Message::Certificate(certificates) => {
                    let mut list = Vec::new();
                    for certificate in certificates {
                        list.extend(&(certificate.len() as u32).to_be_bytes()[1..]);
                        list.extend(&certificate);
                        list.extend([0, 0]);
                    }
                    message(11, &[&[0], &(list.len() as u32).to_be_bytes()[1..], &list].concat())
                }
                Message::Verify => verify(&self.key, 0x0403, &keys.transcript),
                Message::VerifyAs(scheme) => verify(&self.key, scheme, &keys.transcript),
                Message::VerifyByAnother => {
                    verify(&SigningKey::from_slice(&[5; 32]).unwrap(), 0x0403, &keys.transcript)
                }
                Message::VerifyOfAnother => verify(&self.key, 0x0403, &Sha256::new()),
                Message::Finished => finished(&keys.server_secret, &keys.transcript),
                Message::FinishedWrongly => message(20, &[1; 32]),
                Message::Raw(bytes) => bytes,
                Message::Record(kind, content) => {
                    self.pack(&std::mem::take(&mut waiting));
                    let record = self.keys.as_mut().unwrap().server.seal(kind, &content);
                    self.said.extend(record);
                    continue;
                }
                Message::Plain(record) => {
                    self.pack(&std::mem::take(&mut waiting));
                    self.said.extend(record);
                    continue;
                }
            };
            if let Some(spoil) = &mut self.spoil {
                spoil(&mut bytes);
            }
            keys.transcript.update(&bytes);
            waiting.push(bytes);
        }
        self.pack(&waiting);
        let keys = self.keys.as_mut().unwrap();
        let master = extract(&derive(&keys.handshake, "derived", &Sha256::new()), &[0; 32]);
        let of = |label| Direction::new(&derive(&master, label, &keys.transcript));
        keys.next = Some((of("c ap traffic"), of("s ap traffic")));
    }

    fn pack(&mut self, messages: &[Vec<u8>]) {
        let all = messages.concat();
        let parts: Vec<&[u8]> = match self.packing {
            Packing::OneEach => messages.iter().map(Vec::as_slice).collect(),
            Packing::Together => vec![&all],
            Packing::Split(at) => all.chunks(at).collect(),
        };
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let record = self.keys.as_mut().unwrap().server.seal(HANDSHAKE, part);
            self.said.extend(record);
        }
    }

    fn record(&mut self, record: &[u8]) {
        let Some(keys) = &mut self.keys else { return self.greet(record) };
        self.records += 1;
        let (kind, content) = keys.client.open(record);
        match (kind, self.is_open) {
            (HANDSHAKE, false) if content[0] == 11 => keys.transcript.update(&content),
            (HANDSHAKE, false) => {
                assert_eq!(content, finished(&keys.client_secret, &keys.transcript));
                (keys.client, keys.server) = keys.next.take().unwrap();
                self.is_open = true;
                for (kind, content) in &self.after {
                    self.said.extend(keys.server.seal(*kind, content));
                }
                self.said.extend(&self.plain_after);
            }
            (APPLICATION_DATA, true) => self.data.extend(content),
            _ => panic!("a record of type {kind} came"),
        }
    }
}

impl Server for OwnServer {
    fn accept(&mut self) {
        (self.keys, self.is_open, self.records) = (None, false, 0);
        self.heard.clear();
        self.said.clear();
        self.data.clear();
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend(bytes);
        while let [_, _, _, high, low, ..] = self.heard[..] {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            if self.heard.len() < length {
                return;
            }
            let record: Vec<u8> = self.heard.drain(..length).collect();
            self.record(&record);
        }
    }

    fn say(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }
}
