//! The tables: one rule for each system call that is missing.
//!
//! Numbers differ between architectures, so they come from libc, by name. Only the newest calls have the same order
//! everywhere: a number above that of `clone3` is a newer call. Sources: the kernel's
//! `arch/x86/entry/syscalls/syscall_64.tbl` of 5.4, and Docker's default seccomp profile (moby/profiles).

use libc::{EINVAL, ENOSYS, EPERM};

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

/// The constants of libc with these names.
macro_rules! named {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// The calls that a list can name: ringbell can do without them, or must report their failure well.
const CALLS: &[(&str, libc::c_long)] = named!(SYS_memfd_create SYS_pidfd_open SYS_pidfd_getfd SYS_io_setup SYS_io_submit
    SYS_inotify_init1 SYS_renameat2 SYS_linkat SYS_mmap SYS_fcntl SYS_close_range SYS_clone3 SYS_membarrier);
const ERRNOS: &[(&str, i32)] = named!(EPERM EACCES ENOSYS EINVAL EMFILE ENFILE ENOMEM ENOLCK EAGAIN);

/// The rules of a table's name, or of a list `CALL=ERRNO,…`; `None` for any other word.
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
    let (call, errno) = text.split_once('=')?;
    Some(fails(find(CALLS, &format!("SYS_{call}"))?, find(ERRNOS, errno)?))
}

fn find<T: Copy>(names: &[(&str, T)], wanted: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

fn linux_5_4() -> Vec<Rule> {
    vec![
        // The last call that Linux 5.4 has.
        Rule::FailsAbove(number(libc::SYS_clone3), ENOSYS),
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

/// What older profiles, or those without `CAP_SYS_PTRACE`, take away besides. Both kinds of asynchronous input and output,
/// and membarrier, which hardened ones take away.
fn strict() -> Vec<Rule> {
    let calls = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_setup,
        libc::SYS_membarrier,
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
