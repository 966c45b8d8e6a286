//! Copying and filling memory, in 110 bytes of flash.
//!
//! The compiler calls these functions by name. Rust's own, which these take precedence over, are unrolled and have a
//! loop for each alignment: 3.2 KB. ARMv7-M loads and stores a word at any address (architecture reference manual,
//! A3.2.1), so one loop over words and one over the bytes that are left will do.
//!
//! The names that begin with `__aeabi` are those of Arm's run-time ABI (section 5.3.4): those that end in 4 and 8 may
//! rely on an alignment, none gives a value back, and filling takes the length before the byte.
#![expect(
    unsafe_code,
    reason = "the names are the compiler's, and in Rust a copying loop becomes a call of them"
)]

use core::arch::global_asm;

global_asm!(
    ".macro begin name, more:vararg",
    ".global \\name",
    ".type \\name, %function",
    "\\name:",
    ".ifnb \\more",
    "begin \\more",
    ".endif",
    ".endm",
    ".section .text.rollcall_memory, \"ax\", %progbits",
    "begin memmove, __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8",
    // Upwards, unless the destination begins within the source.
    "subs r3, r0, r1",
    "cmp r3, r2",
    "bhs memcpy",
    "0: subs r2, #4",
    "blo 1f",
    "ldr r3, [r1, r2]",
    "str r3, [r0, r2]",
    "b 0b",
    "1: adds r2, #4",
    "2: subs r2, #1",
    "it lo",
    "bxlo lr",
    "ldrb r3, [r1, r2]",
    "strb r3, [r0, r2]",
    "b 2b",
    "begin memcpy, __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8",
    // r0 is also what is given back.
    "mov r12, r0",
    "b 4f",
    "3: ldr r3, [r1], #4",
    "str r3, [r12], #4",
    "4: subs r2, #4",
    "bhs 3b",
    "adds r2, #4",
    "b 6f",
    "5: ldrb r3, [r1], #1",
    "strb r3, [r12], #1",
    "6: subs r2, #1",
    "bhs 5b",
    "bx lr",
    "begin __aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8",
    "movs r2, #0",
    "begin __aeabi_memset, __aeabi_memset4, __aeabi_memset8",
    "mov r3, r1",
    "mov r1, r2",
    "mov r2, r3",
    "begin memset",
    "uxtb r1, r1",
    "orr r1, r1, r1, lsl #8",
    "orr r1, r1, r1, lsl #16",
    "mov r12, r0",
    "7: subs r2, #4",
    "itt hs",
    "strhs r1, [r12], #4",
    "bhs 7b",
    "adds r2, #4",
    "8: subs r2, #1",
    "itt hs",
    "strbhs r1, [r12], #1",
    "bhs 8b",
    "bx lr",
    ".purgem begin",
);
