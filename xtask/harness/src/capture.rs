//! The packets that the emulator's `filter-dump` wrote: a classic pcap file of this machine's byte order.

use anyhow::{Context, Result};

/// The file's header, a packet's header, and where in that the packet's length is.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
const LENGTH_AT: usize = 12;

/// Every packet, from its Ethernet header on. The last one may be cut off: the emulator may still write it.
///
/// # Errors
/// When there is no header.
pub fn packets(pcap: &[u8]) -> Result<Vec<&[u8]>> {
    let mut rest = pcap.get(FILE_HEADER..).context("the capture has no header")?;
    let mut packets = Vec::new();
    while let Some((packet, following)) = first(rest) {
        packets.push(packet);
        rest = following;
    }
    Ok(packets)
}

fn first(pcap: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(pcap.get(LENGTH_AT..PACKET_HEADER)?.try_into().ok()?);
    pcap.get(PACKET_HEADER..)?.split_at_checked(length as usize)
}
