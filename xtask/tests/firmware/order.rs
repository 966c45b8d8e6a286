//! What a board sent, in which order: read from the packets on its wire.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rollcall_harness::capture;

/// What stands before a sample's number in a payload.
const SEQ: &[u8] = br#""seq":"#;

/// Ethernet: the type's place, and IPv4. IPv4: TCP.
const ETHER_TYPE_AT: usize = 12;
const IPV4: [u8; 2] = [0x08, 0x00];
const ETHERNET_HEADER: usize = 14;
const TCP: u8 = 6;
const SYN: u8 = 0x02;

/// One connection's bytes, as far as they have come.
struct Stream {
    source_port: u16,
    /// The sequence number of the first byte.
    start: u32,
    bytes: Vec<u8>,
}

/// Checks that the board sent each of `sampled` samples, and none before all that were taken before it. It may send
/// one again: what was not acknowledged on a new connection, and what was refused (a host that drains refuses).
pub(crate) fn check(pcap: &Path, broker_port: u16, sampled: u64) -> Result<()> {
    let pcap = std::fs::read(pcap).with_context(|| format!("cannot read {}", pcap.display()))?;
    let mut next = 0;
    for (number, stream) in streams(&pcap, broker_port)?.iter().enumerate() {
        for seq in sequence_numbers(&stream.bytes) {
            ensure!(seq <= next, "{seq} was sent on connection {number}, and {next} was next");
            next = next.max(seq + 1);
        }
    }
    ensure!(next == sampled, "{next} samples were sent, and {sampled} were taken");
    Ok(())
}

/// What the board sent to the broker, one connection after the other.
fn streams(pcap: &[u8], broker_port: u16) -> Result<Vec<Stream>> {
    let mut streams: Vec<Stream> = Vec::new();
    for segment in capture::packets(pcap)?.into_iter().filter_map(|packet| Segment::of(packet, broker_port)) {
        if segment.is_syn {
            let start = segment.seq.wrapping_add(1);
            // A SYN may be sent again.
            if streams
                .last()
                .is_none_or(|last| (last.source_port, last.start) != (segment.source_port, start))
            {
                streams.push(Stream { source_port: segment.source_port, start, bytes: Vec::new() });
            }
            continue;
        }
        let stream = streams.iter_mut().rfind(|stream| stream.source_port == segment.source_port);
        let stream = stream.context("a segment of no connection")?;
        let offset = segment.seq.wrapping_sub(stream.start) as usize;
        // Bytes that are sent again are the same.
        let known = stream.bytes.len().checked_sub(offset).context("bytes are missing on the wire")?;
        stream.bytes.extend_from_slice(segment.payload.get(known..).unwrap_or_default());
    }
    Ok(streams)
}

struct Segment<'a> {
    source_port: u16,
    seq: u32,
    is_syn: bool,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// A TCP segment for `broker_port`; `None` for every other packet.
    fn of(packet: &'a [u8], broker_port: u16) -> Option<Self> {
        let ip = packet.get(ETHERNET_HEADER..).filter(|_| packet[ETHER_TYPE_AT..].starts_with(&IPV4))?;
        // Ethernet pads short packets, so the length is IP's (RFC 791, section 3.1).
        let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let tcp = ip.get(4 * usize::from(ip[0] & 0x0f)..length).filter(|_| ip.get(9) == Some(&TCP))?;
        // RFC 9293, section 3.1.
        let half = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
        let seq = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let header = 4 * usize::from(tcp.get(12)? >> 4);
        (half(2)? == broker_port).then_some(Self {
            source_port: half(0)?,
            seq,
            is_syn: tcp.get(13)? & SYN != 0,
            payload: tcp.get(header..)?,
        })
    }
}

fn sequence_numbers(stream: &[u8]) -> impl Iterator<Item = u64> {
    let places = stream.windows(SEQ.len()).enumerate().filter(|(_, window)| *window == SEQ);
    places.filter_map(|(at, _)| {
        let rest = &stream[at + SEQ.len()..];
        // A number at the very end may be cut off.
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
    })
}
