//! The tables: one rule for each system call that is missing.
//!
//! Numbers above 424 are the same on every architecture; the others come from libc. Sources: the kernel's
//! `arch/x86/entry/syscalls/syscall_64.tbl` of 5.4, and Docker's default seccomp profile (moby/profiles).

use libc::{EINVAL, ENOSYS, EPERM};

/// The last call that Linux 5.4 has (`clone3`).
const LAST_OF_5_4: u32 = 435;

/// How one call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// This call fails with the errno.
    Fails(u32, i32),
    /// Every call with a greater number fails with the errno.
    FailsAbove(u32, i32),
    /// This call fails if its second argument has any of the bits.
    FailsWithFlags(u32, u32, i32),
}

/// The rules of a table's name, or of a list `NUMBER=ERRNO,…`; `None` for any other word.
pub fn parse(name: &str) -> Option<Vec<Rule>> {
    match name {
        "5.4" => Some(linux_5_4()),
        "5.4-noclone3" => Some([vec![fails(libc::SYS_clone3, ENOSYS)], linux_5_4()].concat()),
        "docker" => Some(docker()),
        "docker-strict" => Some([docker(), strict()].concat()),
        list => list.split(',').map(pair).collect(),
    }
}

fn pair(text: &str) -> Option<Rule> {
    let (number, errno) = text.split_once('=')?;
    let errno = errno.parse().ok().filter(|errno| (1..4096).contains(errno))?;
    Some(Rule::Fails(number.parse().ok()?, errno))
}

fn linux_5_4() -> Vec<Rule> {
    vec![
        Rule::FailsAbove(LAST_OF_5_4, ENOSYS),
        // MFD_NOEXEC_SEAL and MFD_EXEC came with 6.3, PIDFD_NONBLOCK (any flag at all) with 5.10.
        Rule::FailsWithFlags(number(libc::SYS_memfd_create), 0x18, EINVAL),
        Rule::FailsWithFlags(number(libc::SYS_pidfd_open), u32::MAX, EINVAL),
    ]
}

/// What a container with the usual capabilities gets.
fn docker() -> Vec<Rule> {
    vec![
        fails(libc::SYS_pidfd_getfd, EPERM),
        fails(libc::SYS_kcmp, EPERM),
        fails(libc::SYS_process_madvise, EPERM),
        fails(libc::SYS_clone3, ENOSYS),
    ]
}

/// What older profiles, or those without `CAP_SYS_PTRACE`, take away besides, and both kinds of asynchronous input and output,
/// which hardened ones do.
fn strict() -> Vec<Rule> {
    let calls = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_setup,
    ];
    calls.into_iter().map(|call| fails(call, EPERM)).collect()
}

fn fails(call: libc::c_long, errno: i32) -> Rule {
    Rule::Fails(number(call), errno)
}

/// libc gives numbers as `c_long`; they are small and positive, and a filter compares 32 bits.
fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}
