//! The thread of a member, which the first request that waits begins. It sleeps on the member's bell while requests wait,
//! and ends soon after the last one.
//!
//! It never calls into anything of the caller: it puts answers into the inbox, whose descriptor wakes the event loop.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Answer;
use super::waits::{Settlement, Wait, asyncs_of, locked};
use crate::error::{Error, Result};
use crate::segment::MappedTable;
use crate::sync::member::Member;
use crate::sys::futex;

/// How long a member's thread waits for more requests before it ends.
const LINGER: Duration = Duration::from_secs(1);
const STACK: usize = 128 * 1024;

/// Starts a thread that waits in place of an event loop.
pub(super) fn spawn(name: &str, call: impl FnOnce() + Send + 'static) -> Result<()> {
    let builder = std::thread::Builder::new().name(name.into()).stack_size(STACK);
    builder.spawn(call).map(drop).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EAGAIN as i32));
        Error::os("clone", errno, "cannot start a thread that waits")
    })
}

impl Member {
    /// Answers at once, or makes the member's thread wait.
    pub(super) fn begin_async(self: &Arc<Self>, mut wait: Wait) -> Result<Option<Answer>> {
        self.check()?;
        let shared = asyncs_of(self);
        let mut asyncs = locked(&shared);
        // The bell is read by the thread before it looks, so what rings from here on is seen.
        match wait.advance() {
            Ok(true) => {
                drop(asyncs);
                return Ok(Some(wait.finish()));
            }
            Err(error) => {
                drop(asyncs);
                wait.withdraw();
                return Err(error);
            }
            Ok(false) => {}
        }
        self.ensure_kept();
        let (member, table) = (Arc::downgrade(self), Arc::clone(&self.table.mapped));
        if !asyncs.runs
            && let Err(error) = spawn("ringbell-wait", move || serve(&member, &table))
        {
            drop(asyncs);
            wait.withdraw();
            return Err(error);
        }
        asyncs.runs = true;
        let queued = wait.place.is_none();
        asyncs.waits.push_back(wait);
        self.queued.store(asyncs.queued(), Ordering::SeqCst);
        drop(asyncs);
        if queued {
            // A place may have become free before it was known that somebody waits for one.
            self.ring_own();
        }
        Ok(None)
    }
}

/// What the thread of a member does. It keeps the table mapped, and does not keep the member: only requests do.
pub(super) fn serve(member: &Weak<Member>, table: &MappedTable) {
    let mut idle_since: Option<Instant> = None;
    while let Some(member) = member.upgrade() {
        let bell = member.bell();
        let (settled, idle) = {
            let shared = asyncs_of(&member);
            let mut asyncs = locked(&shared);
            let settled = asyncs.settle();
            member.queued.store(asyncs.queued(), Ordering::SeqCst);
            let idle = asyncs.waits.is_empty();
            idle_since = if idle { idle_since.or_else(|| Some(Instant::now())) } else { None };
            let over = idle_since.is_some_and(|since| since.elapsed() >= LINGER) || member.check().is_err();
            asyncs.runs = !(idle && over);
            (settled, idle && over)
        };
        for Settlement(inbox, settled) in settled {
            inbox.put(settled);
        }
        if idle {
            return;
        }
        member.ensure_kept();
        let seat = member.seat.member();
        drop(member);
        if let Some(word) = table.memory().bell_address(seat) {
            futex::wait(word, bell, idle_since.map(|since| since + LINGER));
        }
    }
}
