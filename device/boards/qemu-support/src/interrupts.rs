//! A machine's interrupt table, and the switch that lets its interrupts happen.

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;

/// An interrupt by its number in the machine's table.
#[derive(Clone, Copy)]
pub struct Interrupt(pub u16);

#[expect(unsafe_code, reason = "cortex-m relies on the number")]
// SAFETY: it always gives the same number, and one that is beyond the NVIC's registers panics there.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

/// What is called when an interrupt happens.
pub type Handler = unsafe extern "C" fn();

#[expect(unsafe_code, reason = "cortex-m-rt's handler of what is not expected")]
mod runtime {
    unsafe extern "C" {
        pub(super) fn DefaultHandler();
    }
}

/// What cortex-m-rt's linker script puts behind the processor's own vectors, when it is named `__INTERRUPTS` and in
/// the section `.vector_table.interrupts`. An interrupt that is not among `used` ends in cortex-m-rt's handler of
/// what is not expected.
pub const fn table<const COUNT: usize>(used: &[(Interrupt, Handler)]) -> [Handler; COUNT] {
    let mut handlers: [Handler; COUNT] = [runtime::DefaultHandler; COUNT];
    let mut at = 0;
    while at < used.len() {
        let (Interrupt(number), handler) = used[at];
        handlers[number as usize] = handler;
        at += 1;
    }
    handlers
}

/// Lets them interrupt. Their handlers must need nothing that is not there from the start.
#[expect(unsafe_code, reason = "unmasking can break critical sections that are made of masking")]
pub fn enable(interrupts: &[Interrupt]) {
    for interrupt in interrupts {
        // SAFETY: critical sections here mask every interrupt, never a single one.
        unsafe { NVIC::unmask(*interrupt) };
    }
}
