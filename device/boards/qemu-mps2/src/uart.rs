//! UART 0, Arm's CMSDK APB UART (Cortex-M System Design Kit, section 4.3): the log out, Ctrl-C in.

const BASE: usize = 0x4000_4000;

/// Byte offsets from [`BASE`].
const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CTRL: usize = 0x08;
const INTCLEAR: usize = 0x0c;
const BAUDDIV: usize = 0x10;

/// STATE: the transmit and the receive buffer are full. Each holds one byte.
const TX_FULL: u32 = 1 << 0;
const RX_FULL: u32 = 1 << 1;

/// CTRL: transmit, receive, interrupt when a byte was received.
const TX_ENABLE: u32 = 1 << 0;
const RX_ENABLE: u32 = 1 << 1;
const RX_INTERRUPT: u32 = 1 << 3;

/// INTCLEAR: a byte was received.
const RX_CLEAR: u32 = 1 << 1;

/// The smallest divisor that the UART takes; with a smaller one it does nothing.
const BAUDDIV_MIN: u32 = 16;

/// Lets it send, and received bytes interrupt.
pub(crate) fn start() {
    write(BAUDDIV, BAUDDIV_MIN);
    write(CTRL, TX_ENABLE | RX_ENABLE | RX_INTERRUPT);
}

/// Sends a byte as soon as there is room.
pub(crate) fn put(byte: u8) {
    while read(STATE) & TX_FULL != 0 {}
    write(DATA, u32::from(byte));
}

/// What the UART's interrupt does. It is cleared before the look, so that a byte that comes during the look
/// interrupts again.
pub(crate) extern "C" fn on_interrupt() {
    write(INTCLEAR, RX_CLEAR);
    while read(STATE) & RX_FULL != 0 {
        let [byte, ..] = read(DATA).to_le_bytes();
        rollcall_qemu_support::console::received(byte);
    }
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn read(offset: usize) -> u32 {
    // SAFETY: an aligned register of the UART; only DATA changes by being read, and only the interrupt does.
    unsafe { core::ptr::with_exposed_provenance::<u32>(BASE + offset).read_volatile() }
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn write(offset: usize, value: u32) {
    // SAFETY: an aligned register of the UART, which has no access to memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(BASE + offset).write_volatile(value) }
}
