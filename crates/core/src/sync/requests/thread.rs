//! Threads that wait in place of an event loop. They never call into anything of the caller: they put answers into the inbox,
//! whose descriptor wakes the event loop.

use nix::errno::Errno;

use crate::error::{Error, Result};

const STACK: usize = 128 * 1024;

/// Starts a thread that waits in place of an event loop.
pub(super) fn spawn(name: &str, call: impl FnOnce() + Send + 'static) -> Result<()> {
    let builder = std::thread::Builder::new().name(name.into()).stack_size(STACK);
    builder.spawn(call).map(drop).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EAGAIN as i32));
        Error::os("clone", errno, "cannot start a thread that waits")
    })
}
