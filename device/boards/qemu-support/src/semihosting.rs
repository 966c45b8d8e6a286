//! What the emulator's host gives by semihosting (Arm's "Semihosting for AArch32 and AArch64"): the command
//! line, random bytes, and an end with an exit code.

use core::ffi::CStr;
use core::str;

use cortex_m_semihosting::{nr, syscall};

/// Newer than the crate's list of operations.
const SYS_EXIT_EXTENDED: usize = 0x20;

/// The reason of an end in order; the exit code is beside it.
const APPLICATION_EXIT: usize = 0x20026;

/// The process's random bytes. Neither machine has a generator, so what it draws is as good as its host's.
const ENTROPY: &CStr = c"/dev/urandom";

/// The words that the emulator was given with `-semihosting-config arg=…`, separated by spaces. The first
/// is the program's name. `None` when they do not fit into `buffer`.
pub(crate) fn command_line(buffer: &mut [u8]) -> Option<&str> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    if call(nr::GET_CMDLINE, &mut block) != 0 {
        return None;
    }
    str::from_utf8(buffer.get(..block[1])?).ok()
}

/// 64 bits from the host's generator, or `None` when it has none.
pub(crate) fn entropy() -> Option<u64> {
    let mut name = [ENTROPY.as_ptr() as usize, nr::open::R_BINARY, ENTROPY.count_bytes()];
    let file = call(nr::OPEN, &mut name);
    if file == usize::MAX {
        return None;
    }
    let mut bytes = [0; 8];
    // It gives how many bytes are missing.
    let missing = call(nr::READ, &mut [file, bytes.as_mut_ptr() as usize, bytes.len()]);
    call(nr::CLOSE, &mut [file]);
    (missing == 0).then_some(u64::from_le_bytes(bytes))
}

/// Ends the emulator with this exit code.
pub fn exit(code: u8) -> ! {
    call(SYS_EXIT_EXTENDED, &mut [APPLICATION_EXIT, usize::from(code)]);
    // The emulator ends at its next chance, which need not be the next instruction.
    loop {
        cortex_m::asm::nop();
    }
}

#[expect(unsafe_code, reason = "the host reads and writes this memory")]
fn call<const N: usize>(operation: usize, block: &mut [usize; N]) -> usize {
    // SAFETY: every operation above is given the block that it asks for, and the buffers named in a block
    // are as long as it says and borrowed mutably where the host writes. The block's exclusive borrow, made
    // an address before the call, covers what the host writes into the block itself.
    unsafe { syscall(operation, block) }
}
