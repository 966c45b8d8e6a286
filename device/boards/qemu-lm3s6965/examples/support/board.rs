//! The little that an example needs of the board: its UART, and an interrupt table: one entry, as the linker script
//! takes none for a mistake.

#[path = "../../src/uart.rs"]
#[expect(dead_code, reason = "an example receives nothing")]
mod uart;

pub(crate) use uart::put;

#[expect(unsafe_code, reason = "the linker script asks for this section and this name")]
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [u32; 1] = [0];
