//! Panics and hard faults: told over the serial line, then the emulator ends with an exit code of its own.

use core::fmt::Write;
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::ExceptionFrame;

use crate::console::Console;
use crate::{semihosting, stack};

/// The exit code after a panic.
const EXIT_PANIC: u8 = 101;

/// The exit code after a hard fault, a stack overflow among them.
const EXIT_HARD_FAULT: u8 = 102;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    let _ = writeln!(Console, "\n{info}");
    semihosting::exit(EXIT_PANIC)
}

#[expect(unsafe_code, reason = "the vector table names it, and nothing may be pushed before it runs")]
mod vector {
    use core::arch::naked_asm;

    /// Starts the stack anew before anything is pushed: after an overflow, the stack pointer is where no
    /// memory is, and another fault within this handler would lock the processor up.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn HardFault() -> ! {
        naked_asm!(
            "mov r0, sp",
            "ldr r1, =_stack_start",
            "mov sp, r1",
            "b {report}",
            report = sym super::report,
        )
    }
}

/// Reports a fault for which the processor pushed a frame at `frame`, if there was room for it.
extern "C" fn report(frame: usize) -> ! {
    let stack = stack::range();
    if stack.contains(&frame) {
        let _ = writeln!(Console, "\nhard fault at {:#010x}", read(frame).pc());
    } else {
        let _ = writeln!(
            Console,
            "\nstack overflow: the stack pointer {frame:#010x} is below {:#010x}",
            stack.start
        );
    }
    let (status, address) = fault_registers();
    let _ = writeln!(Console, "CFSR {status:#010x}, BFAR {address:#010x}");
    semihosting::exit(EXIT_HARD_FAULT)
}

#[expect(unsafe_code, reason = "the processor wrote the frame")]
fn read(frame: usize) -> ExceptionFrame {
    let frame = core::ptr::with_exposed_provenance::<ExceptionFrame>(frame);
    // SAFETY: the processor pushed a frame to this aligned address before it called the handler, and the
    // address was seen to be in the stack.
    unsafe { frame.read_volatile() }
}

/// Configurable fault status and bus fault address (ARMv7-M architecture reference manual, B3.2.15 and
/// B3.2.18).
#[expect(unsafe_code, reason = "the peripherals were taken long ago")]
fn fault_registers() -> (u32, u32) {
    // SAFETY: two reads of registers that no read changes.
    unsafe { ((*SCB::PTR).cfsr.read(), (*SCB::PTR).bfar.read()) }
}
