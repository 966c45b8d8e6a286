//! The Stellaris Ethernet controller as a driver for embassy-net.
//!
//! QEMU has no PHY registers for it, so the link always seems up: a link that is down shows as silence.

mod regs;

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

use self::regs::Registers;

/// An Ethernet header and 1500 bytes.
const FRAME_MAX: usize = 1514;

/// The FIFO's words begin two bytes before the frame: with its length.
const LENGTH_SIZE: usize = 2;

/// In the receive FIFO, a frame ends with its CRC.
const CRC_SIZE: usize = 4;

/// Both addresses and the type: not counted in the length of a frame to send.
const HEADER_SIZE: usize = 14;

static RECEIVED: AtomicWaker = AtomicWaker::new();

/// What the controller's interrupt does. It is acknowledged before anybody looks, so that a frame that
/// comes during the look interrupts again.
pub(crate) extern "C" fn on_interrupt() {
    regs::acknowledge_received();
    RECEIVED.wake();
}

/// Room for a frame each way.
struct Frames {
    receive: [u8; LENGTH_SIZE + FRAME_MAX + CRC_SIZE],
    transmit: [u8; LENGTH_SIZE + FRAME_MAX],
}

static FRAMES: ConstStaticCell<Frames> = ConstStaticCell::new(Frames {
    receive: [0; LENGTH_SIZE + FRAME_MAX + CRC_SIZE],
    transmit: [0; LENGTH_SIZE + FRAME_MAX],
});

/// The controller.
pub(crate) struct Ethernet {
    registers: Registers,
    frames: &'static mut Frames,
}

impl Ethernet {
    /// Sets the controller up.
    pub(crate) fn start() -> Self {
        Self { registers: Registers::start(), frames: FRAMES.take() }
    }
}

impl Driver for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Transmit<'_>)> {
        // The waker is registered before the look, so no frame falls between the two.
        RECEIVED.register(context.waker());
        if self.registers.frames() == 0 {
            return None;
        }
        let Frames { receive, transmit } = &mut *self.frames;
        let frame = read_frame(&mut self.registers, receive);
        Some((Received(frame), Transmit { registers: &mut self.registers, buffer: transmit }))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Transmit<'_>> {
        Some(Transmit { registers: &mut self.registers, buffer: &mut self.frames.transmit })
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.registers.hardware_address())
    }
}

/// Takes one frame out of the FIFO. Of one that is too long the rest is read too, and dropped: the FIFO
/// goes on to the next frame only when all of this one was read.
///
/// Data sheet, 15.3.1.2: the first word holds the length, which includes itself and the CRC, and the first
/// two bytes of the frame.
fn read_frame<'a>(registers: &mut Registers, buffer: &'a mut [u8]) -> &'a mut [u8] {
    let first = registers.pop();
    let length = usize::from(u16::from_le_bytes([first[0], first[1]]));
    let words = length.div_ceil(size_of_val(&first));
    let (head, tail) = buffer.split_at_mut(first.len());
    head.copy_from_slice(&first);
    let mut room = tail.chunks_mut(first.len());
    for _ in 1..words {
        let word = registers.pop();
        if let Some(place) = room.next() {
            place.copy_from_slice(&word[..place.len()]);
        }
    }
    let end = length.saturating_sub(CRC_SIZE).clamp(LENGTH_SIZE, LENGTH_SIZE + FRAME_MAX);
    &mut buffer[LENGTH_SIZE..end]
}

/// A frame that was received.
pub(crate) struct Received<'a>(&'a mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to send.
pub(crate) struct Transmit<'a> {
    registers: &'a mut Registers,
    buffer: &'a mut [u8; LENGTH_SIZE + FRAME_MAX],
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let Self { registers, buffer } = self;
        let (words, _) = buffer.split_at_mut(LENGTH_SIZE + length);
        let result = f(&mut words[LENGTH_SIZE..]);
        // Data sheet, 15.3.1.2: unlike the length of a received frame, this one counts the payload only.
        let counted = length.saturating_sub(HEADER_SIZE) as u16;
        words[..LENGTH_SIZE].copy_from_slice(&counted.to_le_bytes());
        // The FIFO takes one frame at a time; the last one is on the wire within 1.2 ms, at 10 Mbit/s.
        while registers.is_transmitting() {}
        for bytes in words.chunks(4) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            registers.push(word);
        }
        registers.transmit();
        result
    }
}
