//! Fails the n-th system call of a kind in a running command, and lets all others pass.
//!
//! The command runs under a seccomp filter that asks a supervisor (`SECCOMP_RET_USER_NOTIF`) about each call of the
//! kind. The supervisor counts between two marks that the command sets ([`begin`] and [`end`]), so that the start and
//! the end of the program itself are never hit. Calls on descriptors that were open at the first mark are not counted: they
//! are the program's own, such as the epoll of Node's event loop. Neither are those of processes that the command starts. A
//! command may set the marks again and again; each time the failing call is the next one. It needs Linux 5.5 and no
//! privilege. Called by the core's test `crates/core/tests/nth` only.

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::program;
use crate::table::{Kind, descriptor, is_safe};

/// The marks: `umask` with an argument that no program would give. The supervisor answers it in the kernel's place, so
/// that nothing changes.
const BEGIN: u64 = 0x6e74_6801;
const END: u64 = 0x6e74_6802;
/// The answers to a mark, which are no masks. They tell the command that it is supervised, and at the end, whether a call
/// has failed.
const ANSWER: i32 = 0x6e74;
const ANSWER_FAILED: i32 = 0x6e75;
/// The child's end of the socket over which the listener comes has this number or a greater one, so that no
/// descriptor of the command itself has its number: `sendmsg` on it is let through by the filter.
const CHANNEL_FROM: RawFd = 700;

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// The kind of call.
    pub kind: &'static Kind,
    /// What the command gets.
    pub errno: i32,
    /// The first call that fails after the first mark, from 1. With 0, none fails, and all are counted. It is one more after
    /// each further mark.
    pub nth: u32,
    /// Whether all later calls fail, too.
    pub onwards: bool,
    /// Whether more and more calls are passed over from one mark to the next one.
    pub sparse: bool,
}

impl Failure {
    /// Which call is next.
    pub fn after(&self, nth: u32) -> u32 {
        match nth {
            0 => 0,
            _ if self.sparse => nth + nth / 4 + 1,
            _ => nth + 1,
        }
    }
}

/// What became of the command.
#[derive(Debug)]
pub struct Outcome {
    /// How many calls of the kind it made between the last marks.
    pub calls: u32,
    /// Which of these calls was to fail.
    pub nth: u32,
    /// How it ended. `None`: it hung, and was killed.
    pub status: Option<ExitStatus>,
}

/// Whether this machine can do it. The error is the kernel's refusal.
pub fn supported() -> io::Result<()> {
    let (kind, _) = crate::table::KINDS.first().ok_or(io::ErrorKind::Unsupported)?;
    let failure = Failure { kind, errno: libc::EPERM, nth: 0, onwards: false, sparse: false };
    run(Command::new("/bin/true"), failure, Duration::from_secs(60)).map(drop)
}

/// Tells the supervisor to begin to count. Does nothing without one.
pub fn begin() {
    mark(BEGIN);
}

/// Tells the supervisor to let everything pass from now on. Does nothing without one.
pub fn end() {
    mark(END);
}

fn mark(word: u64) {
    // SAFETY: `umask` takes a number and cannot fail.
    unsafe {
        let before = libc::syscall(libc::SYS_umask, word);
        // Without a supervisor it has changed the mask to the word's low bits.
        if ![ANSWER, ANSWER_FAILED].map(libc::c_long::from).contains(&before) {
            libc::syscall(libc::SYS_umask, before);
        }
    }
}

/// Runs the command to its end, or kills it after `patience`.
pub fn run(mut command: Command, failure: Failure, patience: Duration) -> io::Result<Outcome> {
    let (ours, theirs) = channel()?;
    let number = theirs.as_raw_fd();
    let filter = program::compile_notify(failure.kind, number);
    // SAFETY: the closure only makes system calls, on memory that was allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            // The command must not outlive a supervisor that is killed.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The number is closed by the plain call: where the standard library has its debug assertions, the drop of
            // an owned descriptor calls `fcntl` first, and nobody would answer that before the command is executed.
            let listener = ManuallyDrop::new(install(&filter)?);
            send(number, listener.as_fd())?;
            check(libc::close(listener.as_raw_fd())).map(drop)
        });
    }
    let mut child = command.spawn()?;
    drop(theirs);
    let result =
        receive(ours.as_fd()).and_then(|listener| supervise(&mut child, &listener, failure, patience));
    if !matches!(result, Ok(Outcome { status: Some(_), .. })) {
        // It may have ended just now.
        let _ = child.kill();
        child.wait()?;
    }
    result
}

fn supervise(
    child: &mut Child,
    listener: &OwnedFd,
    failure: Failure,
    patience: Duration,
) -> io::Result<Outcome> {
    let ended = pidfd(child.id())?;
    let mut deadline = Instant::now() + patience;
    let (mut calls, mut counting, mut nth) = (0, false, failure.nth);
    let mut own: Option<HashSet<u64>> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Outcome { calls, nth, status: None });
        }
        let mut polled = [polled(listener.as_fd()), polled(ended.as_fd())];
        // SAFETY: an array of two, which outlives the call.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), 2, left.as_millis().min(60_000) as i32) }) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if polled[0].revents & libc::POLLIN != 0 {
            let Some(asked) = ask(listener.as_fd())? else { continue };
            let (call, arguments) = (i64::from(asked.data.nr), &asked.data.args);
            let answer = match (call, arguments[0]) {
                (libc::SYS_umask, BEGIN) => {
                    match &own {
                        Some(_) => nth = failure.after(nth),
                        None => own = Some(descriptors(child.id())?),
                    }
                    (calls, counting, deadline) = (0, true, Instant::now() + patience);
                    Answer::Value(ANSWER)
                }
                (libc::SYS_umask, END) => {
                    counting = false;
                    Answer::Value(if nth > 0 && calls >= nth { ANSWER_FAILED } else { ANSWER })
                }
                (libc::SYS_umask, _) => Answer::Pass,
                _ if !counting || is_safe(call, arguments) || !is_of(child.id(), asked.pid) => Answer::Pass,
                _ if descriptor(call, arguments)
                    .is_some_and(|fd| own.as_ref().is_some_and(|own| own.contains(&fd))) =>
                {
                    Answer::Pass
                }
                _ => {
                    calls += 1;
                    let hit = calls == nth || (failure.onwards && nth > 0 && calls > nth);
                    if hit { Answer::Fail(failure.errno) } else { Answer::Pass }
                }
            };
            reply(listener.as_fd(), asked.id, answer)?;
        } else if polled[1].revents != 0 {
            return Ok(Outcome { calls, nth, status: Some(child.wait()?) });
        }
    }
}

/// The descriptors that the process has.
fn descriptors(process: u32) -> io::Result<HashSet<u64>> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Whether the thread is one of the process, and not of a child that inherited the filter.
fn is_of(process: u32, thread: u32) -> bool {
    process == thread || std::fs::exists(format!("/proc/{process}/task/{thread}")).unwrap_or(false)
}

enum Answer {
    Pass,
    Value(i32),
    Fail(i32),
}

fn polled(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// The next call. `None` when its thread was killed meanwhile.
fn ask(listener: BorrowedFd<'_>) -> io::Result<Option<libc::seccomp_notif>> {
    // SAFETY: a structure of numbers, for which zero is a value; the kernel wants it zeroed, and fills it.
    unsafe {
        let mut asked: libc::seccomp_notif = std::mem::zeroed();
        let result = libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut asked);
        match check(result) {
            Ok(_) => Ok(Some(asked)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn reply(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let (val, error, flags) = match answer {
        Answer::Pass => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Answer::Value(value) => (i64::from(value), 0, 0),
        Answer::Fail(errno) => (0, -errno, 0),
    };
    let mut reply = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the kernel reads the structure, which outlives the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut reply) };
    match check(result) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Puts the calling thread, and everything that it starts, under the filter.
fn install(filter: &[seccompiler::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel copies the program, which outlives the call, and returns a new descriptor.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let call = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        Ok(OwnedFd::from_raw_fd(check(call as i32)?))
    }
}

/// A pair of sockets. The second one has a great number.
fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [0; 2];
    // SAFETY: the kernel writes two descriptors, which are owned from here on.
    unsafe {
        check(libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            pair.as_mut_ptr(),
        ))?;
        let (ours, low) = (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]));
        let high = check(libc::fcntl(low.as_raw_fd(), libc::F_DUPFD_CLOEXEC, CHANNEL_FROM))?;
        Ok((ours, OwnedFd::from_raw_fd(high)))
    }
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, and returns a new descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32)?)) }
}

/// One byte, with room for one descriptor.
struct Message {
    byte: [u8; 1],
    control: [u64; 4],
}

impl Message {
    fn new() -> Message {
        Message { byte: [0], control: [0; 4] }
    }

    fn with<T>(&mut self, call: impl FnOnce(*mut libc::msghdr) -> T) -> T {
        let mut part = libc::iovec { iov_base: self.byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: a structure of numbers and pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = self.control.as_mut_ptr().cast();
        // SAFETY: only computes.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
        call(&raw mut header)
    }
}

fn send(channel: RawFd, fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `control` has room for a header and one descriptor (24 of 32 bytes); all of it outlives the call.
    Message::new().with(|header| unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = libc::SOL_SOCKET;
        (*control).cmsg_type = libc::SCM_RIGHTS;
        (*control).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(control).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
        check(libc::sendmsg(channel, header, 0) as i32).map(drop)
    })
}

fn receive(channel: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: as in `send`; the descriptor that came is owned from here on.
    Message::new().with(|header| unsafe {
        check(libc::recvmsg(channel.as_raw_fd(), header, libc::MSG_CMSG_CLOEXEC) as i32)?;
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(control).cast::<RawFd>().read_unaligned()))
    })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
