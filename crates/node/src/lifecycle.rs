//! What an environment (the main thread, a worker) has open, and its orderly end.
//!
//! Every class registers its cell here. When the environment goes down, what is still open is closed, the latest
//! first, so that records are withdrawn. A cleanup hook does that when a worker ends or the loop runs out of work.
//! `process.exit` and an uncaught exception end the main thread by exit(3) without cleanup hooks (Node 20.20), so
//! there is an atexit handler as well. The ArrayBuffers that are left keep their memory by themselves.
//! Must never enter JS: at that point there is none to enter.
#![allow(unsafe_code)] // the reason: instance data and cleanup hooks are C interfaces

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::{Mutex, Once};

use napi::{Env, sys};
use nix::unistd::{Pid, getpid, gettid};

use crate::errors::Result;
use crate::raw::check;

/// Something that an environment must close at its end.
pub trait Closable {
    /// Closes it; does nothing the second time. JS may be gone.
    fn close(&self);
}

/// An environment that the atexit handler finds: whose it is, and the address of its `Open`.
struct Entry {
    process: Pid,
    thread: Pid,
    address: usize,
}

static ENVIRONMENTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// What is open. Cells are held, so that nothing is closed by a collector that found it unreferenced: a record must
/// not vanish because nobody kept what announced it.
#[derive(Default)]
struct Open {
    cells: RefCell<Vec<Rc<dyn Closable>>>,
}

impl Open {
    fn close_all(&self) {
        loop {
            let Some(cell) = self.cells.borrow_mut().pop() else { return };
            // One that panics must not keep the others open.
            let _ = catch_unwind(AssertUnwindSafe(|| cell.close()));
        }
    }
}

/// Registers `cell` with its environment, which holds it until it is closed.
pub fn register(env: Env, cell: &Rc<impl Closable + 'static>) -> Result<()> {
    open(env)?.cells.borrow_mut().push(cell.clone());
    Ok(())
}

/// Closes `cell` now, and lets go of it.
pub fn close(env: Env, cell: &Rc<impl Closable + 'static>) -> Result<()> {
    cell.close();
    let address = Rc::as_ptr(cell).cast::<()>();
    open(env)?.cells.borrow_mut().retain(|open| Rc::as_ptr(open).cast::<()>() != address);
    Ok(())
}

fn open(env: Env) -> Result<Rc<Open>> {
    let mut data = ptr::null_mut();
    // SAFETY: N1 and N3 of raw.rs.
    check(unsafe { sys::napi_get_instance_data(env.raw(), &mut data) }, "napi_get_instance_data")?;
    if !data.is_null() {
        let data = data.cast::<Open>().cast_const();
        // SAFETY: only this function sets instance data, to an `Rc<Open>` count that `forget` gives up at the end.
        unsafe {
            Rc::increment_strong_count(data);
            return Ok(Rc::from_raw(data));
        }
    }
    let open = Rc::new(Open::default());
    let data = Rc::into_raw(open.clone()).cast_mut().cast::<c_void>();
    // SAFETY: N1 of raw.rs; the count in `data` is the one that `forget` gives up.
    let status = unsafe { sys::napi_set_instance_data(env.raw(), data, Some(forget), ptr::null_mut()) };
    if status != sys::Status::napi_ok {
        // SAFETY: it was not taken, so the count is still ours.
        drop(unsafe { Rc::from_raw(data.cast::<Open>().cast_const()) });
        check(status, "napi_set_instance_data")?;
    }
    // SAFETY: N1 of raw.rs; cleanup hooks run before instance data is given up, so `data` is alive in `finish`.
    let status = unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(finish), data) };
    check(status, "napi_add_env_cleanup_hook")?;
    static HANDLER: Once = Once::new();
    // SAFETY: the handler is a plain function of this image, which is never unmapped (build.rs).
    HANDLER.call_once(|| unsafe { _ = libc::atexit(exiting) });
    if let Ok(mut entries) = ENVIRONMENTS.lock() {
        entries.push(Entry { process: getpid(), thread: gettid(), address: data as usize });
    }
    Ok(open)
}

unsafe extern "C" fn finish(data: *mut c_void) {
    if let Ok(mut entries) = ENVIRONMENTS.lock() {
        entries.retain(|entry| entry.address != data as usize);
    }
    // SAFETY: the count behind `data` is given up only by `forget`, which runs after the cleanup hooks.
    let open = unsafe { &*data.cast::<Open>() };
    open.close_all();
}

unsafe extern "C" fn forget(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
    // SAFETY: the count that `open` stored as instance data; its finalizer runs once.
    drop(unsafe { Rc::from_raw(data.cast::<Open>().cast_const()) });
}

/// Runs on whatever thread called exit(3), so it looks for environments of that very thread. A child forked
/// without exec comes by here too, and must not withdraw what is its parent's.
extern "C" fn exiting() {
    let here = (getpid(), gettid());
    let Ok(entries) = ENVIRONMENTS.try_lock().map(|mut entries| std::mem::take(&mut *entries)) else {
        return;
    };
    for entry in entries.iter().filter(|entry| (entry.process, entry.thread) == here) {
        // SAFETY: `finish` takes an environment off the list before its `Open` goes, and it would run on this thread.
        let open = unsafe { &*(entry.address as *const Open) };
        open.close_all();
    }
}
