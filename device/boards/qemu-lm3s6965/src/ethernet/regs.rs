//! The registers of the Stellaris Ethernet controller (LM3S6965 data sheet, chapter 15).

/// Where the controller is: data sheet, table 2-1.
const BASE: usize = 0x4004_8000;

/// Byte offsets from [`BASE`].
const RIS_IACK: usize = 0x00;
const IM: usize = 0x04;
const RCTL: usize = 0x08;
const TCTL: usize = 0x0c;
const DATA: usize = 0x10;
const IA0: usize = 0x14;
const IA1: usize = 0x18;
const THR: usize = 0x1c;
const NP: usize = 0x34;
const TR: usize = 0x38;

/// RIS, IACK, IM: a frame was received.
const RXINT: u32 = 1 << 0;

/// RCTL: receive, and start with an empty FIFO.
const RXEN: u32 = 1 << 0;
const RSTFIFO: u32 = 1 << 4;

/// TCTL: transmit, pad short frames, append the CRC, full duplex.
const TXEN: u32 = 1 << 0;
const PADEN: u32 = 1 << 1;
const CRC: u32 = 1 << 2;
const DUPLEX: u32 = 1 << 4;

/// TR: start, and busy while it reads as 1.
const NEWTX: u32 = 1 << 0;

/// THR: start to transmit when TR says so, never when the FIFO is so and so full.
const THRESHOLD_NONE: u32 = 0x3f;

/// The registers. Whoever has the one value of this type owns the controller, its interrupt apart.
pub(super) struct Registers(());

impl Registers {
    /// Sets the controller up to receive and transmit, with interrupts for received frames only.
    pub(super) fn start() -> Self {
        write(RCTL, RSTFIFO);
        write(THR, THRESHOLD_NONE);
        write(TCTL, TXEN | PADEN | CRC | DUPLEX);
        write(IM, RXINT);
        write(RCTL, RXEN);
        Self(())
    }

    /// The address that the controller has.
    pub(super) fn hardware_address(&self) -> [u8; 6] {
        let ([a, b, c, d], [e, f, ..]) = (read(IA0).to_le_bytes(), read(IA1).to_le_bytes());
        [a, b, c, d, e, f]
    }

    /// How many received frames wait.
    pub(super) fn frames(&self) -> u32 {
        read(NP)
    }

    /// The next four bytes of the receive FIFO.
    pub(super) fn pop(&mut self) -> [u8; 4] {
        read(DATA).to_le_bytes()
    }

    /// The next four bytes of the transmit FIFO.
    pub(super) fn push(&mut self, bytes: [u8; 4]) {
        write(DATA, u32::from_le_bytes(bytes));
    }

    /// Sends what is in the transmit FIFO.
    pub(super) fn transmit(&mut self) {
        write(TR, NEWTX);
    }

    /// Whether a frame is still being sent. In QEMU it is gone at once.
    pub(super) fn is_transmitting(&self) -> bool {
        read(TR) & NEWTX != 0
    }
}

/// What the interrupt handler does: tells the controller that the received frame was noticed.
pub(super) fn acknowledge_received() {
    write(RIS_IACK, RXINT);
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn read(offset: usize) -> u32 {
    // SAFETY: an aligned register of the controller; only DATA changes by being read, and only the owner of
    // `Registers` reads that.
    unsafe { core::ptr::with_exposed_provenance::<u32>(BASE + offset).read_volatile() }
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn write(offset: usize, value: u32) {
    // SAFETY: an aligned register of the controller, which has no access to memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(BASE + offset).write_volatile(value) }
}
