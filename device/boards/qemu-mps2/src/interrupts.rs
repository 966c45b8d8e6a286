//! The interrupts of the AN385 image that are used (its application note, table 3-4), and their handlers.

use rollcall_qemu_support::interrupts::{self, Handler, Interrupt};

use crate::{ethernet, uart};

const UART0_RECEIVE: Interrupt = Interrupt(0);
const ETHERNET: Interrupt = Interrupt(13);

/// Up to the last one that is used.
const COUNT: usize = ETHERNET.0 as usize + 1;

#[expect(unsafe_code, reason = "the linker script asks for this section and this name")]
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Handler; COUNT] =
    interrupts::table(&[(UART0_RECEIVE, uart::on_interrupt), (ETHERNET, ethernet::on_interrupt)]);

/// Lets them interrupt.
pub(crate) fn enable() {
    interrupts::enable(&[UART0_RECEIVE, ETHERNET]);
}
