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

/// How many callers are told: a deep recursion tells no more with all of them.
const CALLERS_MAX: usize = 16;

/// Says where it was called from, not what it was called with: names of files, lines and messages would take 11 KB of
/// flash. They are in the ELF file, in which `cargo xtask` looks the addresses up.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    let _ = Console.write_str("\npanic\n");
    tell_callers(stack::frame_pointer());
    semihosting::exit(EXIT_PANIC)
}

/// Writes the addresses to which the functions on the stack would return, the innermost first.
fn tell_callers(frame_pointer: usize) {
    for address in stack::callers(frame_pointer).take(CALLERS_MAX) {
        let _ = writeln!(Console, "called from {address:#010x}");
    }
}

#[expect(unsafe_code, reason = "the vector table names it, and nothing may be pushed before it runs")]
mod vector {
    use core::arch::naked_asm;

    /// Starts the stack anew before anything is pushed, where less than 1 KB of it is left: after an overflow, the
    /// stack pointer is where no memory is, and another fault within this handler would lock the processor up.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn HardFault() -> ! {
        naked_asm!(
            "mov r0, sp",
            // The frame pointer, as in `stack::frame_pointer`.
            "mov r1, r7",
            "ldr r2, =_stack_end",
            "add r2, #1024",
            "cmp sp, r2",
            "bhs 0f",
            "ldr r2, =_stack_start",
            "mov sp, r2",
            "0: b {report}",
            report = sym super::report,
        )
    }
}

/// Reports a fault for which the processor pushed a frame at `frame`, if there was room for it.
extern "C" fn report(frame: usize, frame_pointer: usize) -> ! {
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
    tell_callers(frame_pointer);
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
