//! UART0, an Arm PL011 (LM3S6965 data sheet, chapter 12): the log out, Ctrl-C in.
//!
//! In QEMU it needs no clock, pins or baud rate. The real chip needs all three.

const BASE: usize = 0x4000_c000;

/// Byte offsets from [`BASE`].
const DR: usize = 0x00;
const FR: usize = 0x18;
const IM: usize = 0x38;

/// FR: the receive FIFO is empty, the transmit FIFO is full.
const RXFE: u32 = 1 << 4;
const TXFF: u32 = 1 << 5;

/// IM: interrupt when a byte was received. Reading it from DR ends the interrupt.
const RXIM: u32 = 1 << 4;

/// Lets received bytes interrupt.
pub(crate) fn start() {
    write(IM, RXIM);
}

/// Sends a byte as soon as there is room.
pub(crate) fn put(byte: u8) {
    while read(FR) & TXFF != 0 {}
    write(DR, u32::from(byte));
}

/// What the UART's interrupt does.
pub(crate) extern "C" fn on_interrupt() {
    while read(FR) & RXFE == 0 {
        let [byte, ..] = read(DR).to_le_bytes();
        rollcall_qemu_support::console::received(byte);
    }
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn read(offset: usize) -> u32 {
    // SAFETY: an aligned register of the UART; only DR changes by being read, and only the interrupt does.
    unsafe { core::ptr::with_exposed_provenance::<u32>(BASE + offset).read_volatile() }
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn write(offset: usize, value: u32) {
    // SAFETY: an aligned register of the UART, which has no access to memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(BASE + offset).write_volatile(value) }
}
