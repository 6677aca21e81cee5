//! Linux AIO: a queue of reads and writes that the kernel does on its own; here, a way to ring an eventfd without waiting.
//!
//! A request can name an eventfd that the kernel signals when the request is done (`IOCB_FLAG_RESFD`). That signal never waits,
//! whatever the flags of the eventfd's description and its counter are, and it wakes sleepers also when the counter is full.
//! `write(2)` waits for room in a full counter as soon as any holder has cleared `O_NONBLOCK`. The request itself writes
//! nothing to /dev/null, and is done before `io_submit` returns.
//!
//! Invariant: a process has one queue, made at its first ring. A forked child has none of its parent's, and makes its own.
//! Called by `eventfd` alone.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::generation::Home;

/// Requests that the queue has room for: 64 of the 65,536 (`fs.aio-max-nr`) that all processes of a machine share.
const ROOM: libc::c_long = 64;
/// Rings between two looks at what is done: until then it takes up room.
const REAPED: u32 = 32;

const IOCB_CMD_PWRITE: u16 = 1;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb` of `linux/aio_abi.h`. `aio_key` and `aio_rw_flags`, which are swapped on big-endian machines, are both 0.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key_and_flags: u64,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`: which request is done, and how it went. It is not read.
type Done = [u64; 4];

/// The queue of this process, or why it has none.
struct Queue {
    home: Home,
    made: Result<Context, (&'static str, Errno)>,
}

struct Context {
    number: libc::c_ulong,
    null: OwnedFd,
    unreaped: AtomicU32,
}

static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(std::ptr::null_mut());

/// Signals an eventfd: adds 1 to its counter unless it is full, and wakes whoever waits for it. It never waits.
///
/// # References
/// `io_submit(2)`, `io_getevents(2)`; `eventfd_signal` in the kernel's `fs/eventfd.c`.
///
/// # Errors
/// The call that failed: `io_setup` and `open` as for [`available`]; `io_submit` with EAGAIN when other threads fill the queue,
/// EINVAL when it is no eventfd.
pub(crate) fn signal(eventfd: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
    let context = queue().made.as_ref().map_err(|failed| *failed)?;
    // Relaxed: it only spreads the reaping; the kernel orders its own queue.
    if context.unreaped.fetch_add(1, Ordering::Relaxed) % REAPED == REAPED - 1 {
        context.reap();
    }
    let result = match context.submit(eventfd) {
        Err(Errno::EAGAIN) => {
            context.reap();
            context.submit(eventfd)
        }
        result => result,
    };
    result.map_err(|errno| ("io_submit", errno))
}

/// Whether this process can signal eventfds in this way.
///
/// # References
/// `io_setup(2)`.
///
/// # Errors
/// The call that failed: `io_setup` with ENOSYS (`CONFIG_AIO=n`), EPERM (a seccomp filter), EAGAIN (`fs.aio-max-nr`), ENOMEM;
/// `open` of /dev/null with what `open(2)` answers. It stays so for as long as the process lives.
pub(crate) fn available() -> Result<(), (&'static str, Errno)> {
    queue().made.as_ref().map(|_| ()).map_err(|failed| *failed)
}

fn queue() -> &'static Queue {
    // SYNC: pairs with the AcqRel exchange below, which publishes a queue.
    let known = QUEUE.load(Ordering::Acquire);
    // SAFETY: a published queue is never freed nor written but through atomics.
    match unsafe { known.as_ref() } {
        Some(queue) if !queue.home.is_foreign() => return queue,
        _ => {}
    }
    // Without a lock, which another thread could hold while this process forks. What a parent left stays as it is: a box and a
    // descriptor of /dev/null.
    let fresh = Box::into_raw(Box::new(Queue { home: Home::here(), made: Context::new() }));
    // SYNC: pairs with the Acquire load above, and with this exchange of another thread.
    match QUEUE.compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above; it has just been published.
        Ok(_) => unsafe { &*fresh },
        Err(winner) => {
            // SAFETY: `fresh` came from Box::into_raw and was never published.
            if let Ok(context) = unsafe { Box::from_raw(fresh) }.made {
                context.destroy();
            }
            // SAFETY: as above; the other thread has published it.
            unsafe { &*winner }
        }
    }
}

impl Context {
    fn new() -> Result<Context, (&'static str, Errno)> {
        let null = open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| ("open", errno))?;
        let mut number: libc::c_ulong = 0;
        // SAFETY: the kernel writes one word to a word that outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, ROOM, &raw mut number) };
        Errno::result(result).map_err(|errno| ("io_setup", errno))?;
        Ok(Context { number, null, unreaped: AtomicU32::new(0) })
    }

    fn submit(&self, eventfd: BorrowedFd<'_>) -> nix::Result<()> {
        // Descriptors are never negative.
        let request = Request {
            opcode: IOCB_CMD_PWRITE,
            fd: self.null.as_raw_fd().cast_unsigned(),
            flags: IOCB_FLAG_RESFD,
            eventfd: eventfd.as_raw_fd().cast_unsigned(),
            ..Request::default()
        };
        let mut list = &raw const request;
        // SAFETY: the kernel reads one pointer and the request that it points at, both of which outlive the call. The request
        // writes no bytes, so no memory of ours is read after it.
        let result =
            unsafe { libc::syscall(libc::SYS_io_submit, self.number, 1 as libc::c_long, &raw mut list) };
        Errno::result(result).map(drop)
    }

    /// Takes what is done out of the queue.
    fn reap(&self) {
        let mut done: [Done; ROOM as usize] = [[0; 4]; ROOM as usize];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes at most `ROOM` events to an array of that many, and reads a timespec; both outlive the call.
        // What it answers is of no interest: a queue that stays full makes the next request fail.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.number,
                0 as libc::c_long,
                ROOM,
                done.as_mut_ptr(),
                &raw const now,
            );
        }
    }

    fn destroy(&self) {
        // SAFETY: the call takes a number; nobody else knows it.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.number) };
    }
}
