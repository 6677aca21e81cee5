//! fork without exec: the child must not keep its parent's locks, listeners and doorbells alive.
//!
//! Invariant: in a forked child, every registered descriptor is replaced by /dev/null before any other
//! code of the child runs. It is replaced and not closed: so its number stays taken, and a later drop in
//! the child cannot close a descriptor of other code. The table is lock-free and the hook only loads, because
//! another thread may have been at any point at the time of the fork. exec needs none of this (close-on-exec).

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

const BLOCK: usize = 256;
const FREE: i32 = -1;

struct Block {
    fds: [AtomicI32; BLOCK],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block { fds: [const { AtomicI32::new(FREE) }; BLOCK], next: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The next block. It is made if there is none. Blocks live as long as the process.
    fn next_or_new(&self) -> &'static Block {
        // SYNC: pairs with the AcqRel exchange below, which publishes a block's contents.
        let mut next = self.next.load(Ordering::Acquire);
        if next.is_null() {
            let fresh = Box::into_raw(Box::new(Block::new()));
            // SYNC: pairs with the Acquire loads of `next` here and in `replace_all`.
            match self.next.compare_exchange(next, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => next = fresh,
                Err(winner) => {
                    // SAFETY: `fresh` came from Box::into_raw above and was never published.
                    drop(unsafe { Box::from_raw(fresh) });
                    next = winner;
                }
            }
        }
        // SAFETY: a published block is never freed, and is written only through atomics.
        unsafe { &*next }
    }
}

static FIRST: Block = Block::new();
static HOOK: Once = Once::new();

/// A descriptor that does not survive a fork.
#[derive(Debug)]
pub struct ForkGuarded {
    // Before `fd` (order of drop): the entry must be gone before its number can be reused.
    _entry: Entry,
    fd: OwnedFd,
}

impl ForkGuarded {
    /// Registers `fd` for as long as the result lives.
    ///
    /// # References
    /// `pthread_atfork(3)`, `dup3(2)`.
    pub(crate) fn new(fd: OwnedFd) -> ForkGuarded {
        ForkGuarded { _entry: Entry::new(fd.as_fd()), fd }
    }
}

impl std::ops::Deref for ForkGuarded {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsFd for ForkGuarded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An entry in the table, for a descriptor that another value owns. Drop the entry before that value.
#[derive(Debug)]
pub(crate) struct Entry {
    entry: &'static AtomicI32,
}

impl Entry {
    /// Registers a descriptor. The caller keeps it open at least as long as the entry.
    ///
    /// # References
    /// `pthread_atfork(3)`.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Entry {
        // SAFETY: the hook is async-signal-safe: it loads atomics and calls open, dup3 and close.
        HOOK.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(replace_all));
        });
        let mut block = &FIRST;
        loop {
            for entry in &block.fds {
                // Relaxed: the entry carries only the number, and the fork itself orders it.
                if entry.compare_exchange(FREE, fd.as_raw_fd(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
                {
                    return Entry { entry };
                }
            }
            block = block.next_or_new();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Relaxed: as in `new`.
        self.entry.store(FREE, Ordering::Relaxed);
    }
}

unsafe extern "C" fn replace_all() {
    // SAFETY: open, dup3 and close are async-signal-safe; the path is a literal; the table holds
    // numbers that this process owned when it forked.
    unsafe {
        // O_NONBLOCK: a doorbell without it would look as if another process had tampered with it.
        let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let null = libc::open(c"/dev/null".as_ptr(), flags);
        let mut block: *const Block = &raw const FIRST;
        while !block.is_null() {
            for entry in &(*block).fds {
                let fd = entry.load(Ordering::Relaxed);
                if fd >= 0 && (null < 0 || libc::dup3(null, fd, libc::O_CLOEXEC) < 0) {
                    libc::close(fd);
                }
            }
            // SYNC: pairs with the exchange in `next_or_new`.
            block = (*block).next.load(Ordering::Acquire);
        }
        if null >= 0 {
            libc::close(null);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::poll::{PollFd, PollFlags, poll};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork, pipe, pipe2};

    #[test]
    fn a_forked_child_holds_nothing_that_was_registered() {
        let (gone_read, gone_write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (kept_read, kept_write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let guarded = ForkGuarded::new(gone_write);
        // SAFETY: the child makes only async-signal-safe calls before `_exit`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // SAFETY: calls on numbers of ours and a byte of ours, then _exit.
                unsafe {
                    let number = guarded.as_fd().as_raw_fd();
                    let still_taken = libc::fcntl(number, libc::F_GETFD) >= 0;
                    let null = libc::write(number, [0u8; 1].as_ptr().cast(), 1) == 1;
                    libc::read(kept_read.as_raw_fd(), [0u8; 1].as_mut_ptr().cast(), 1);
                    libc::_exit(if still_taken && null { 0 } else { 1 });
                }
            }
            ForkResult::Parent { child } => {
                drop(guarded);
                // POLLHUP comes once the last write end is closed. Data written before would be readable.
                let mut fds = [PollFd::new(gone_read.as_fd(), PollFlags::POLLIN)];
                let hung_up =
                    poll(&mut fds, 20_000u16) == Ok(1) && fds[0].revents() == Some(PollFlags::POLLHUP);
                nix::unistd::write(&kept_write, b"x").unwrap();
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                assert!(hung_up, "the child keeps no write end");
            }
        }
    }

    #[test]
    fn more_than_one_block_of_entries() {
        let (end, _other) = pipe().unwrap();
        let entries: Vec<_> = (0..BLOCK * 2 + 3).map(|_| Entry::new(end.as_fd())).collect();
        let mut addresses: Vec<_> = entries.iter().map(|entry| &raw const *entry.entry).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), entries.len());
    }
}
