//! The interrupts of the AN385 image that are used (its application note, table 3-4), and their handlers.

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;

use crate::{ethernet, uart};

/// Up to the last one that is used.
const COUNT: usize = 14;

#[derive(Clone, Copy)]
#[repr(u16)]
enum Interrupt {
    Uart0Receive = 0,
    Ethernet = 13,
}

#[expect(unsafe_code, reason = "only we know which interrupts there are")]
// SAFETY: the numbers are the chip's.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

type Handler = unsafe extern "C" fn();

#[expect(unsafe_code, reason = "cortex-m-rt's handler of what is not expected")]
mod runtime {
    unsafe extern "C" {
        pub(super) fn DefaultHandler();
    }
}

/// What cortex-m-rt's linker script puts behind the processor's own vectors.
#[expect(unsafe_code, reason = "the linker script asks for this section and this name")]
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Handler; COUNT] = {
    let mut handlers: [Handler; COUNT] = [runtime::DefaultHandler; COUNT];
    handlers[Interrupt::Uart0Receive as usize] = uart0;
    handlers[Interrupt::Ethernet as usize] = ethernet;
    handlers
};

extern "C" fn uart0() {
    uart::on_interrupt();
}

extern "C" fn ethernet() {
    ethernet::on_interrupt();
}

/// Lets them interrupt. Their handlers need nothing that is not there from the start.
#[expect(unsafe_code, reason = "unmasking can break critical sections that are made of masking")]
pub(crate) fn enable() {
    // SAFETY: critical sections here mask every interrupt, never a single one.
    unsafe {
        NVIC::unmask(Interrupt::Uart0Receive);
        NVIC::unmask(Interrupt::Ethernet);
    }
}
