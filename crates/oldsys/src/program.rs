//! Compiles rules to a classic BPF program for seccomp: it checks the architecture, then each rule, and then allows.
//!
//! Invariant: every rule is a short forward jump over its own answer, and leaves the call's number in the accumulator
//! for the next rule.
//! References: seccomp(2), `include/uapi/linux/filter.h`.

use crate::table::{Kind, Rule, number};
use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};
use seccompiler::{BpfProgram, sock_filter};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Offsets in `struct seccomp_data`. On a little-endian machine the low half of an argument comes first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

/// The filter: each call gets the answer of the first rule that names it.
pub fn compile(rules: &[Rule]) -> BpfProgram {
    let mut program = checked();
    program.extend([
        // x32 numbers on x86-64 would pass every comparison below.
        jump(BPF_JGE, 0x4000_0000, 0, 1),
        refuse(libc::ENOSYS),
    ]);
    for rule in rules {
        match *rule {
            Rule::Fails(call, errno) => program.extend([jump(BPF_JEQ, call, 0, 1), refuse(errno)]),
            Rule::FailsAbove(call, errno) => program.extend([jump(BPF_JGT, call, 0, 1), refuse(errno)]),
            Rule::FailsWithFlags(call, flags, errno) => program.extend([
                jump(BPF_JEQ, call, 0, 4),
                load(SECOND_ARGUMENT),
                jump(BPF_JSET, flags, 0, 1),
                refuse(errno),
                load(NUMBER),
            ]),
        }
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

/// The filter that asks the supervisor of `nth` about each call of the kind, and about its marks. It lets `sendmsg` on
/// the descriptor `channel` pass, over which the supervisor learns whom to answer.
pub(crate) fn compile_notify(kind: &Kind, channel: i32) -> BpfProgram {
    let mut program = checked();
    program.extend([
        jump(BPF_JEQ, number(libc::SYS_sendmsg), 0, 4),
        load(FIRST_ARGUMENT),
        jump(BPF_JEQ, channel.cast_unsigned(), 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        load(NUMBER),
    ]);
    for call in kind.calls.iter().chain(&[libc::SYS_umask]) {
        program.extend([jump(BPF_JEQ, number(*call), 0, 1), answer(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

/// The check of the architecture. It leaves the call's number in the accumulator.
fn checked() -> BpfProgram {
    vec![load(ARCH), jump(BPF_JEQ, ARCHITECTURE, 1, 0), answer(libc::SECCOMP_RET_KILL_PROCESS), load(NUMBER)]
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

fn jump(test: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | test | BPF_K, then, otherwise, value)
}

fn refuse(errno: i32) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

fn answer(value: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, value)
}

/// A code fits into 16 bits: the kernel's field has that size.
fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: (code & 0xffff) as u16, jt, jf, k }
}
