//! A connection to a broker: packets as rumqttc's codec reads and writes them, over a socket of our own. It logs in,
//! keeps the connection alive and says why it ended; what is said over it is for others.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Disconnect, DisconnectReasonCode, Packet, PingReq,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::dial::{Dial, resolve};
use super::options::{Options, PACKET_MAX};

/// An address that takes our connection and does not welcome us for so long is given up: TLS and CONNACK.
const WELCOME_LIMIT: Duration = Duration::from_secs(10);

/// We say something at least so often, and a broker that says nothing for as long after that is gone.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How much is read at once.
const READ_BYTES: usize = 8 * 1024;

/// Requests are taken while no more than this waits to be written.
const WRITE_BYTES: usize = 8 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The network, or TLS.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker has closed.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker does not say anything any more, or never did.
    #[error("the broker says nothing: no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The broker does not take us.
    #[error("the broker refused us: {0:?}")]
    Refused(ConnectReturnCode),
    /// The broker has ended the connection, with a reason.
    #[error("the broker ended the connection: {code:?} {text}")]
    Dismissed {
        /// By its code.
        code: DisconnectReasonCode,
        /// In its words.
        text: String,
    },
    /// That is no MQTT 5, or not what has to come now.
    #[error("the broker speaks no MQTT 5 that makes sense: {0}")]
    Protocol(String),
}

impl From<CodecError> for LinkError {
    fn from(error: CodecError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Why no address of a broker welcomed us.
#[derive(Debug)]
pub(super) enum Unreachable {
    /// Its name has no address.
    Name(io::Error),
    /// What each address answered.
    Addresses(Vec<(SocketAddr, LinkError)>),
}

impl Unreachable {
    /// What the addresses answered.
    pub(super) fn answers(&self) -> impl Iterator<Item = &LinkError> {
        let answers = match self {
            Self::Name(_) => &[][..],
            Self::Addresses(answers) => answers,
        };
        answers.iter().map(|(_, error)| error)
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "its name cannot be resolved: {error}"),
            Self::Addresses(answers) => {
                for (place, (address, error)) in answers.iter().enumerate() {
                    write!(f, "{}{address}: {error}", if place == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// See the module.
pub(super) struct Link {
    /// Which of the broker's addresses it is.
    pub(super) address: SocketAddr,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The longest packet that the broker takes.
    longest: Option<u32>,
    keep_alive: Interval,
    /// Nothing came since we last asked for a sign of life.
    silent: bool,
    /// We have taken leave.
    leaving: bool,
}

impl Link {
    /// Connects to the first address of the broker that welcomes us.
    ///
    /// # Errors
    /// [`Unreachable`] with what each of them answered.
    pub(super) async fn connect(options: &Options) -> Result<(Self, ConnAck), Unreachable> {
        let addresses = resolve(&options.host, options.port).await.map_err(Unreachable::Name)?;
        let mut dial = Dial::new(addresses);
        let mut answers = Vec::new();
        while let Some((address, connection)) = dial.next().await {
            let welcome = async { Self::open(address, connection?, options).await };
            let silent = |_| Err(LinkError::Silent(WELCOME_LIMIT));
            match timeout(WELCOME_LIMIT, welcome).await.unwrap_or_else(silent) {
                Ok(welcomed) => return Ok(welcomed),
                Err(error) => answers.push((address, error)),
            }
        }
        Err(Unreachable::Addresses(answers))
    }

    async fn open(
        address: SocketAddr,
        connection: TcpStream,
        options: &Options,
    ) -> Result<(Self, ConnAck), LinkError> {
        connection.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &options.tls {
            None => Box::new(connection),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), connection).await?),
        };
        let (reader, writer) = tokio::io::split(stream);
        let mut link = Self {
            address,
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            longest: None,
            keep_alive: every(KEEP_ALIVE),
            silent: false,
            leaving: false,
        };
        link.queue(&options.hello())?;
        // Whoever wants something has to wait.
        let (_waiting, mut requests) = mpsc::channel(1);
        let welcome = match link.next(&mut requests).await? {
            Some(Packet::ConnAck(welcome)) if welcome.code == ConnectReturnCode::Success => welcome,
            Some(Packet::ConnAck(refusal)) => return Err(LinkError::Refused(refusal.code)),
            _ => return Err(LinkError::Protocol("it does not answer CONNECT with CONNACK".to_owned())),
        };
        if let Some(properties) = &welcome.properties {
            link.longest = properties.max_packet_size;
            if let Some(seconds) = properties.server_keep_alive.filter(|seconds| *seconds > 0) {
                link.keep_alive = every(Duration::from_secs(seconds.into()));
            }
        }
        Ok((link, welcome))
    }

    /// The next packet; `None` when we have taken leave. Meanwhile, sends what is asked for. One that is given up has
    /// lost nothing: the next one goes on.
    ///
    /// # Errors
    /// [`LinkError`] when the connection has ended.
    pub(super) async fn next(
        &mut self,
        requests: &mut Receiver<Packet>,
    ) -> Result<Option<Packet>, LinkError> {
        loop {
            match read(&mut self.input)? {
                Some(Packet::PingResp(_)) => continue,
                Some(Packet::Disconnect(end)) => return Err(dismissed(end)),
                Some(packet) => return Ok(Some(packet)),
                None => {}
            }
            let unsent = self.unflushed || !self.output.is_empty();
            if self.leaving && !unsent {
                self.writer.shutdown().await?;
                return Ok(None);
            }
            let room = !self.leaving && self.output.len() < WRITE_BYTES;
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(LinkError::Closed);
                    }
                    self.silent = false;
                }
                written = write(&mut self.writer, &mut self.output), if unsent => self.unflushed = written?,
                Some(request) = requests.recv(), if room => self.queue(&request)?,
                _ = self.keep_alive.tick() => self.ask_for_a_sign_of_life()?,
            }
        }
    }

    /// How many messages of QoS 0, which nobody sends again, were read and not looked at.
    pub(super) fn unread(mut self) -> u64 {
        let mut unread = 0;
        while let Ok(Some(packet)) = read(&mut self.input) {
            unread += u64::from(matches!(packet, Packet::Publish(publish) if publish.qos == QoS::AtMostOnce));
        }
        unread
    }

    fn ask_for_a_sign_of_life(&mut self) -> Result<(), LinkError> {
        if self.silent {
            return Err(LinkError::Silent(self.keep_alive.period()));
        }
        self.silent = true;
        self.queue(&Packet::PingReq(PingReq))
    }

    fn queue(&mut self, packet: &Packet) -> Result<(), LinkError> {
        self.leaving |= matches!(packet, Packet::Disconnect(_));
        packet.write(&mut self.output, self.longest)?;
        Ok(())
    }
}

/// Takes a packet out of `input`; `None` while there is no whole one.
fn read(input: &mut BytesMut) -> Result<Option<Packet>, CodecError> {
    let length = input.len();
    match Packet::read(input, Some(PACKET_MAX)) {
        Ok(packet) => Ok(Some(packet)),
        // The codec says the same of a packet that is whole and cut off inside; that one it has taken.
        Err(CodecError::InsufficientBytes(more)) if input.len() == length => {
            input.reserve(more.max(READ_BYTES));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes some of `output`, or flushes when there is none; whether something is to be flushed.
async fn write(writer: &mut WriteHalf<Box<dyn Stream>>, output: &mut BytesMut) -> io::Result<bool> {
    if output.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    if writer.write_buf(output).await? == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(true)
}

fn dismissed(end: Disconnect) -> LinkError {
    let text = end.properties.and_then(|properties| properties.reason_string).unwrap_or_default();
    LinkError::Dismissed { code: end.reason_code, text }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_not_whole_is_waited_for_and_one_that_is_cut_off_inside_is_none() {
        // A CONNACK, and the same with properties whose length does not end.
        let input = |bytes: &[u8]| read(&mut BytesMut::from(bytes));
        assert!(matches!(input(b"\x20\x03\x01\x00\x00"), Ok(Some(Packet::ConnAck(_)))));
        assert!(matches!(input(b"\x20\x03\x01\x00"), Ok(None)));
        assert!(input(b"\x20\x03\x01\x00\x80").is_err());
    }

    #[test]
    fn whatever_a_broker_says_is_a_packet_or_an_error() {
        const PACKETS: [&[u8]; 6] = [
            b"\x20\x06\x01\x00\x03\x21\x00\x08",
            b"\x32\x13\x00\x01t\x00\x07\x08\x02\x00\x00\x00\x09\x23\x00\x01payl",
            b"\x90\x05\x00\x01\x00\x01\x87",
            b"\x40\x09\x01\x02\x99\x05\x1f\x00\x02no",
            b"\xe0\x07\x8e\x05\x1f\x00\x02no",
            b"\xd0\x00",
        ];
        let mut random = rollcall_harness::random();
        for _ in 0..200_000 {
            let mut bytes = PACKETS[random.usize(..PACKETS.len())].to_vec();
            for _ in 0..random.u8(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = if random.bool() { random.u8(..) } else { random.u8(..16) };
            }
            let mut input = BytesMut::from(&bytes[..]);
            // None of it panics, and it comes to an end.
            while let Ok(Some(_)) = read(&mut input) {}
        }
    }
}
