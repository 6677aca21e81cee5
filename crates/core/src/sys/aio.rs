//! Linux AIO: a queue of reads and writes that the kernel does by itself. Here it is a way to ring an eventfd
//! without waiting.
//!
//! A request can name an eventfd that the kernel signals when the request is done (`IOCB_FLAG_RESFD`). That signal
//! never waits, whatever the eventfd's counter and the flags of its open file are. It also wakes sleepers when the
//! counter is full. `write(2)`, however, waits for room in a full counter as soon as any holder has cleared
//! `O_NONBLOCK`. The request itself writes zero bytes to /dev/null, and is done before `io_submit` returns.
//!
//! A process that has a queue dies late: the kernel waits for an RCU grace period, some 30 ms, before it closes the
//! files and so releases locks and sockets. So this file only does the rings for which `write` is not safe.
//!
//! Invariant: a process has at most one queue, which is made at the first ring that needs it. A forked child does
//! not have its parent's queue, and makes its own. Called by `eventfd`, and by the doctor.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::generation::Home;

/// How many requests to ask room for. This number is charged to `fs.aio-max-nr`, which all processes of a machine
/// share. The kernel gives at least a page, which has room for 126.
const ROOM: libc::c_long = 1;
/// Rings between two looks at finished requests. A finished request takes up room until then.
const REAPED: u32 = 32;
/// How many finished requests one look takes out of the queue: twice as many as one thread puts in between two
/// looks.
const AT_ONCE: usize = 64;

const IOCB_CMD_PWRITE: u16 = 1;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb` of `linux/aio_abi.h`. Big-endian machines swap `aio_key` (which the kernel writes) and
/// `aio_rw_flags`. Both are 0 here.
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

/// `struct io_event`: which request is finished, and its result. It is not read.
type Done = [u64; 4];

/// The call that failed, and its error.
type Failed = (&'static str, Errno);

/// The queue of one process.
struct Queue {
    home: Home,
    /// Held by the thread that makes the context. A forked child may find it locked. That does not matter, because
    /// a child never looks into its parent's queue.
    making: Mutex<()>,
    context: OnceLock<Context>,
}

struct Context {
    number: libc::c_ulong,
    null: OwnedFd,
    unreaped: AtomicU32,
}

static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(std::ptr::null_mut());
/// ENOSYS or EPERM, once the kernel has answered it. Neither changes while the process lives, and its children
/// inherit both.
static REFUSED: AtomicI32 = AtomicI32::new(0);

/// Signals an eventfd: adds 1 to its counter unless it is full, and wakes all sleepers on it. It never waits for a
/// holder of the eventfd. At the first signal it may wait for another thread that is making the queue.
///
/// # References
/// `io_submit(2)`, `io_getevents(2)`; `eventfd_signal` in the kernel's `fs/eventfd.c`.
///
/// # Errors
/// As for [`available`]. The next signal tries again, unless it was ENOSYS or EPERM.
pub(crate) fn signal(eventfd: BorrowedFd<'_>) -> nix::Result<()> {
    // Relaxed, like the store below: no other memory depends on the number.
    match REFUSED.load(Ordering::Relaxed) {
        0 => {}
        errno => return Err(Errno::from_raw(errno)),
    }
    let result = context().and_then(|context| context.signal(eventfd)).map_err(|(_, errno)| errno);
    if let Err(errno @ (Errno::ENOSYS | Errno::EPERM)) = result {
        REFUSED.store(errno as i32, Ordering::Relaxed);
    }
    result
}

/// Tests whether this process could signal this eventfd. It makes a queue for that, and destroys it before it
/// returns. That takes an RCU grace period.
///
/// # References
/// `io_setup(2)`, `io_submit(2)`, `io_destroy(2)`.
///
/// # Errors
/// The call that failed: `io_setup` with ENOSYS (`CONFIG_AIO=n`), EPERM (a seccomp filter), EAGAIN
/// (`fs.aio-max-nr`), ENOMEM; `open` of /dev/null with the errors of `open(2)`; `io_submit` with EAGAIN when other
/// threads fill the queue, EINVAL when the descriptor is not an eventfd.
pub(crate) fn available(eventfd: BorrowedFd<'_>) -> Result<(), Failed> {
    Context::new()?.signal(eventfd)
}

fn context() -> Result<&'static Context, Failed> {
    let queue = queue();
    if let Some(context) = queue.context.get() {
        return Ok(context);
    }
    // Only one thread at a time makes a context. A second one would have to be destroyed, which takes an RCU grace
    // period.
    let _making = queue.making.lock().unwrap_or_else(PoisonError::into_inner);
    match queue.context.get() {
        Some(context) => Ok(context),
        None => {
            let made = Context::new()?;
            Ok(queue.context.get_or_init(|| made))
        }
    }
}

fn queue() -> &'static Queue {
    // SYNC: pairs with the AcqRel exchange below, which publishes a queue.
    let known = QUEUE.load(Ordering::Acquire);
    // SAFETY: a published queue is never freed, and is shared only as `&Queue`.
    match unsafe { known.as_ref() } {
        Some(queue) if !queue.home.is_foreign() => return queue,
        _ => {}
    }
    // What the parent left stays as it is: a box, and a descriptor that is /dev/null now.
    let empty = Queue { home: Home::here(), making: Mutex::new(()), context: OnceLock::new() };
    let fresh = Box::into_raw(Box::new(empty));
    // SYNC: pairs with the Acquire load above, and with the same exchange in another thread.
    match QUEUE.compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above; it has just been published.
        Ok(_) => unsafe { &*fresh },
        Err(winner) => {
            // SAFETY: `fresh` came from Box::into_raw and was never published.
            drop(unsafe { Box::from_raw(fresh) });
            // SAFETY: as above; the other thread has published it.
            unsafe { &*winner }
        }
    }
}

impl Context {
    fn new() -> Result<Context, Failed> {
        let null = open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| ("open", errno))?;
        let mut number: libc::c_ulong = 0;
        // SAFETY: the kernel writes one word, to memory that outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, ROOM, &raw mut number) };
        Errno::result(result).map_err(|errno| ("io_setup", errno))?;
        Ok(Context { number, null, unreaped: AtomicU32::new(0) })
    }

    fn signal(&self, eventfd: BorrowedFd<'_>) -> Result<(), Failed> {
        // Relaxed: the number only spreads the reaping. The kernel orders its own queue.
        if self.unreaped.fetch_add(1, Ordering::Relaxed) % REAPED == REAPED - 1 {
            self.reap();
        }
        let result = match self.submit(eventfd) {
            Err(Errno::EAGAIN) => {
                self.reap();
                self.submit(eventfd)
            }
            result => result,
        };
        result.map_err(|errno| ("io_submit", errno))
    }

    fn submit(&self, eventfd: BorrowedFd<'_>) -> nix::Result<()> {
        // Descriptors are never negative.
        let mut request = Request {
            opcode: IOCB_CMD_PWRITE,
            fd: self.null.as_raw_fd().cast_unsigned(),
            flags: IOCB_FLAG_RESFD,
            eventfd: eventfd.as_raw_fd().cast_unsigned(),
            ..Request::default()
        };
        let mut list = &raw mut request;
        // SAFETY: the kernel reads one pointer, reads the request that it points at, and writes that request's
        // `aio_key`. Pointer and request outlive the call and belong to this thread alone. The request writes no
        // bytes, so the kernel touches no memory of ours afterwards.
        let result =
            unsafe { libc::syscall(libc::SYS_io_submit, self.number, 1 as libc::c_long, &raw mut list) };
        Errno::result(result).map(drop)
    }

    /// Takes finished requests out of the queue.
    fn reap(&self) {
        let mut done: [Done; AT_ONCE] = [[0; 4]; AT_ONCE];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes at most `AT_ONCE` events to an array of that many, and reads a timespec. Both
        // outlive the call. The result does not matter: if the queue stays full, the next request fails.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.number,
                0 as libc::c_long,
                AT_ONCE as libc::c_long,
                done.as_mut_ptr(),
                &raw const now,
            );
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the call takes a number, which no other code knows any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.number) };
    }
}
