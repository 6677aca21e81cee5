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
const CALLS: &[(&str, libc::c_long)] = named!(SYS_memfd_create SYS_pidfd_open SYS_pidfd_getfd SYS_pidfd_send_signal SYS_io_setup SYS_io_submit
    SYS_inotify_init1 SYS_renameat2 SYS_linkat SYS_mmap SYS_fcntl SYS_close_range SYS_clone3 SYS_membarrier);
const ERRNOS: &[(&str, i32)] = named!(EPERM EACCES ENOSYS EINVAL EMFILE ENFILE ENOMEM ENOLCK EAGAIN);

/// One thing that a program asks of the kernel, whichever call its libc takes for it.
#[derive(Debug)]
pub struct Kind {
    name: &'static str,
    /// The numbers of its calls.
    pub calls: &'static [libc::c_long],
}

/// Calls that cannot fail with an open descriptor, by number, argument and the argument's value: they are neither
/// counted nor failed. A transfer of eight bytes is one with an eventfd that is never full or empty without need.
const SAFE: &[(libc::c_long, usize, u64)] = &[
    (libc::SYS_epoll_ctl, 1, libc::EPOLL_CTL_DEL as u64),
    (libc::SYS_fcntl, 1, libc::F_GETFL as u64),
    (libc::SYS_fcntl, 1, libc::F_SETFL as u64),
    (libc::SYS_fcntl, 1, libc::F_GETFD as u64),
    (libc::SYS_fcntl, 1, libc::F_SETFD as u64),
    (libc::SYS_read, 2, 8),
    (libc::SYS_write, 2, 8),
];

/// Calls whose first argument is a descriptor, or a directory's.
const ON_DESCRIPTORS: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fchmod,
    libc::SYS_getdents64,
    libc::SYS_read,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_pidfd_getfd,
    libc::SYS_inotify_add_watch,
    libc::SYS_ioctl,
    libc::SYS_readlinkat,
    libc::SYS_shutdown,
];

/// The descriptor that this call is about.
pub(crate) fn descriptor(call: libc::c_long, arguments: &[u64; 6]) -> Option<u64> {
    let descriptor = match call {
        libc::SYS_mmap => arguments[4],
        _ if ON_DESCRIPTORS.contains(&call) => arguments[0],
        _ => return None,
    };
    Some(descriptor & 0xffff_ffff)
}

/// Whether this call cannot fail, or cannot be survived by any program.
pub(crate) fn is_safe(call: libc::c_long, arguments: &[u64; 6]) -> bool {
    // Memory and stacks of the libc and of Rust's own library, which end the process without.
    let anonymous = call == libc::SYS_mmap && arguments[3] & libc::MAP_ANONYMOUS as u64 != 0;
    anonymous
        || SAFE.iter().any(|(number, at, value)| *number == call && arguments[*at] & 0xffff_ffff == *value)
}

impl Kind {
    /// The name as in the man page.
    pub fn short(&self) -> &'static str {
        self.name.trim_start_matches("SYS_")
    }
}

/// Kinds by the names of their calls; the first one is the kind's name. `x86`: calls that only x86-64 has.
macro_rules! kinds {
    ($($name:ident $(, $other:ident)* $(; $($x86:ident),*)? => [$($errno:ident)*])*) => {
        &[$((
            Kind {
                name: stringify!($name),
                calls: &[libc::$name $(, libc::$other)* $($(, #[cfg(target_arch = "x86_64")] libc::$x86)*)?],
            },
            &[$(libc::$errno),*],
        )),*]
    };
}

/// What ringbell asks of the kernel, with the errors that it may get: those of the man page, and those that limits,
/// signals, memory, filters and old kernels bring.
pub const KINDS: &[(Kind, &[i32])] = kinds! {
    SYS_openat; SYS_open => [EMFILE ENFILE ENOMEM ENOSPC EACCES EINTR EPERM ENOENT EOPNOTSUPP EIO]
    SYS_mkdirat; SYS_mkdir => [ENOSPC EACCES EROFS EEXIST ENOMEM]
    SYS_linkat; SYS_link => [ENOSPC EPERM ENOENT EEXIST EDQUOT ENOMEM]
    SYS_renameat2, SYS_renameat; SYS_rename => [ENOSPC EPERM ENOENT EINVAL ENOMEM]
    SYS_unlinkat; SYS_unlink => [EBUSY EIO ENOMEM EINTR]
    SYS_fcntl => [ENOLCK ENOMEM EINTR EMFILE EPERM EACCES EINVAL]
    SYS_fstat, SYS_newfstatat, SYS_statx => [ENOMEM EACCES EIO ENOENT]
    SYS_fchmod => [EPERM EIO]
    SYS_getdents64 => [ENOMEM EIO ENOENT]
    SYS_read, SYS_preadv2 => [EINTR EIO ENOMEM EAGAIN]
    SYS_pread64 => [EINTR EIO ENOMEM]
    SYS_pwrite64 => [ENOSPC EINTR EIO EDQUOT]
    SYS_write => [ENOSPC EINTR EIO EDQUOT EAGAIN]
    SYS_mmap => [ENOMEM EPERM EAGAIN]
    SYS_munmap => [ENOMEM]
    SYS_madvise => [ENOMEM EINVAL EAGAIN]
    SYS_memfd_create => [EMFILE ENFILE ENOMEM EPERM ENOSYS EINVAL]
    SYS_ftruncate => [ENOMEM ENOSPC EINTR EPERM]
    SYS_fallocate => [ENOSPC ENOMEM EINTR EOPNOTSUPP]
    SYS_eventfd2 => [EMFILE ENFILE ENOMEM]
    SYS_timerfd_create => [EMFILE ENFILE ENOMEM]
    SYS_epoll_create1 => [EMFILE ENFILE ENOMEM]
    SYS_epoll_ctl => [ENOMEM ENOSPC EPERM]
    SYS_epoll_pwait; SYS_epoll_wait => [EINTR]
    SYS_ppoll; SYS_poll => [EINTR ENOMEM]
    SYS_socket => [EMFILE ENFILE ENOMEM ENOBUFS EACCES]
    SYS_socketpair => [EMFILE ENFILE ENOMEM ENOBUFS]
    SYS_bind => [EADDRINUSE ENOSPC EACCES ENOMEM]
    SYS_listen => [EADDRINUSE ENOMEM]
    SYS_connect => [EAGAIN EINTR ECONNREFUSED ENOMEM EACCES]
    SYS_accept4 => [EMFILE ENFILE ENOMEM EINTR ECONNABORTED EAGAIN EPERM]
    SYS_sendmsg, SYS_sendto => [EAGAIN EINTR ENOMEM ENOBUFS EPIPE ETOOMANYREFS]
    SYS_recvmsg, SYS_recvfrom => [EAGAIN EINTR ENOMEM ECONNRESET]
    SYS_getsockopt, SYS_setsockopt => [ENOMEM ENOPROTOOPT EPERM]
    SYS_pidfd_open => [EMFILE ENFILE ENOMEM EPERM ENOSYS]
    SYS_pidfd_getfd => [EMFILE ENFILE EPERM ENOSYS]
    SYS_pidfd_send_signal => [EPERM ENOSYS]
    SYS_inotify_init1 => [EMFILE ENFILE ENOMEM ENOSYS]
    SYS_inotify_add_watch => [ENOSPC ENOMEM EACCES ENOENT]
    SYS_clone3, SYS_clone => [EAGAIN ENOMEM EPERM]
    SYS_io_setup => [EAGAIN ENOMEM ENOSYS EPERM]
    SYS_io_submit => [EAGAIN EPERM]
    SYS_io_getevents => [EINTR]
    SYS_prctl => [EPERM EINVAL]
    SYS_membarrier => [EPERM ENOMEM ENOSYS EINVAL]
    SYS_prlimit64 => [EPERM]
    SYS_getrandom => [EINTR]
    SYS_ioctl => [ENOMEM ENOTTY]
    SYS_readlinkat; SYS_readlink => [ENOMEM EACCES ENOENT]
    SYS_shutdown => [ENOTCONN]
};

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
pub(crate) fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}
