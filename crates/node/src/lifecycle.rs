//! The open objects of an environment (the main thread or a worker), and their orderly close at its end.
//!
//! Every class registers its cell here. Invariant: when the environment ends, the open cells are closed, the latest
//! first, so that records are withdrawn. A cleanup hook does that when a worker ends or the loop runs out of work.
//! `process.exit` and an uncaught exception end the main thread by exit(3) without cleanup hooks (Node 20.20), so there
//! is also an atexit handler. ArrayBuffers that are left keep their own memory alive. This module must never enter JS:
//! at that point JS may no longer run.
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

/// An object that an environment must close at its end.
pub trait Closable {
    /// Closes it. A second call does nothing. JS may no longer run.
    fn close(&self);
}

/// An environment for the atexit handler: its process, its thread, and the address of its `Open`.
struct Entry {
    process: Pid,
    thread: Pid,
    address: usize,
}

static ENVIRONMENTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// The open cells. They are held here, so that the garbage collector never closes one: a record must not vanish because
/// JS dropped the last reference to the object that announced it.
#[derive(Default)]
struct Open {
    cells: RefCell<Vec<Rc<dyn Closable>>>,
}

impl Open {
    fn close_all(&self) {
        loop {
            let Some(cell) = self.cells.borrow_mut().pop() else { return };
            // A cell that panics must not keep the others open.
            let _ = catch_unwind(AssertUnwindSafe(|| cell.close()));
        }
    }
}

/// Registers `cell` with its environment, which holds it until it is closed.
pub fn register(env: Env, cell: &Rc<impl Closable + 'static>) -> Result<()> {
    open(env)?.cells.borrow_mut().push(cell.clone());
    Ok(())
}

/// Closes `cell` now and removes it from the list.
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
        // SAFETY: only this function sets instance data. It is the count of an `Rc<Open>`, which `forget` releases at
        // the end.
        unsafe {
            Rc::increment_strong_count(data);
            return Ok(Rc::from_raw(data));
        }
    }
    let open = Rc::new(Open::default());
    let data = Rc::into_raw(open.clone()).cast_mut().cast::<c_void>();
    // SAFETY: N1 of raw.rs. `forget` releases the count in `data`.
    let status = unsafe { sys::napi_set_instance_data(env.raw(), data, Some(forget), ptr::null_mut()) };
    if status != sys::Status::napi_ok {
        // SAFETY: Node-API did not take it, so the count is still owned here.
        drop(unsafe { Rc::from_raw(data.cast::<Open>().cast_const()) });
        check(status, "napi_set_instance_data")?;
    }
    // SAFETY: N1 of raw.rs. Cleanup hooks run before instance data is released, so `data` is alive in `finish`.
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
    // SAFETY: only `forget` releases the count behind `data`, and it runs after the cleanup hooks.
    let open = unsafe { &*data.cast::<Open>() };
    open.close_all();
}

unsafe extern "C" fn forget(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
    // SAFETY: this is the count that `open` stored as instance data. Its finalizer runs once.
    drop(unsafe { Rc::from_raw(data.cast::<Open>().cast_const()) });
}

/// Runs on the thread that called exit(3), so it closes the environments of that thread only. A child that was forked
/// without exec also runs this. It must not withdraw the records of its parent.
extern "C" fn exiting() {
    let here = (getpid(), gettid());
    let Ok(entries) = ENVIRONMENTS.try_lock().map(|mut entries| std::mem::take(&mut *entries)) else {
        return;
    };
    for entry in entries.iter().filter(|entry| (entry.process, entry.thread) == here) {
        // SAFETY: `finish` removes an environment from the list before its `Open` is dropped, and `finish` runs on this
        // thread.
        let open = unsafe { &*(entry.address as *const Open) };
        open.close_all();
    }
}
