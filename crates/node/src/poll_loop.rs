//! The poll loop: the one place where an environment learns that its endpoints are ready. It is an epoll that one
//! `uv_poll` watches.
//!
//! Each endpoint has an fd: an eventfd, or an epoll that holds doorbells edge-triggered. The loop adds it
//! edge-triggered. Invariant: a ready endpoint is harvested before JS runs. The reason: before Linux 5.5
//! (339ddb53d373), an epoll reports an inner epoll that stays ready at every wait, edge-triggered or not. JS gets the
//! ready ids in one call. It is not a ThreadsafeFunction, because those abort Node 20 and 22 when a worker ends. An
//! async cleanup hook closes the handle, and the environment waits for the hook.
#![allow(unsafe_code)] // the reason: libuv, and callbacks out of its loop

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use napi::{Env, sys};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::errors::{Failure, Result};
use crate::raw::{Answer, Reference, Value, check};
use crate::uv::{self, Uv};

/// The most ready endpoints that one wake reports. The rest follow in the next turn of the loop.
const AT_ONCE: usize = 256;
/// For this many wakes in a row, the endpoint of the last wake is asked first. Then the epoll is asked, so that the
/// others are served.
const GUESSES: u32 = 8;

/// An endpoint that the poller can watch.
pub trait Pollable {
    /// Runs `body` with the fd that becomes readable. Does not run it once the endpoint is closed.
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()>;
    /// If the fd is an epoll, takes what is ready in it, so that it is quiet until the next ring. Returns whether there
    /// was anything.
    fn harvest(&self) -> bool {
        false
    }
}

/// The state behind a `NativePoller`. The uv handle holds a count of it until its close callback.
pub struct Poller {
    env: Env,
    epoll: Epoll,
    on_ready: Reference,
    ready: Reference,
    context: Cell<sys::napi_async_context>,
    watched: RefCell<Vec<Option<Rc<dyn Pollable>>>>,
    /// The endpoint of the last wake, and for how many more wakes it may be asked first.
    last: Cell<(u32, u32)>,
    waiting: Cell<u32>,
    handle: Cell<*mut uv::Handle>,
    hook: Cell<sys::napi_async_cleanup_hook_handle>,
}

impl Poller {
    /// Makes a poller. It is on the environment's loop if `on_loop` is set and there is a loop.
    pub fn new(env: Env, on_ready: Value, ready: Value, on_loop: bool) -> Result<Rc<Self>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let poller = Rc::new(Self {
            env,
            epoll: epoll.map_err(|errno| Failure::system("epoll_create1", errno))?,
            on_ready: Reference::new(env, on_ready)?,
            ready: Reference::new(env, ready)?,
            context: Cell::new(context(env)?),
            watched: RefCell::default(),
            last: Cell::default(),
            waiting: Cell::new(0),
            handle: Cell::new(ptr::null_mut()),
            hook: Cell::new(ptr::null_mut()),
        });
        poller.ready_words()?;
        if on_loop && let Some(uv) = Uv::get() {
            poller.start(uv)?;
        }
        Ok(poller)
    }

    /// Whether a loop watches it. Otherwise `harvest` must be called from time to time.
    pub fn supported(&self) -> bool {
        !self.handle.get().is_null()
    }

    fn start(self: &Rc<Self>, uv: &'static Uv) -> Result<()> {
        let mut event_loop = ptr::null_mut();
        // SAFETY: N1 and N3 of raw.rs.
        let status = unsafe { sys::napi_get_uv_event_loop(self.env.raw(), &mut event_loop) };
        if status != sys::Status::napi_ok || event_loop.is_null() {
            return Ok(());
        }
        // SAFETY: the memory has the size of this libuv's uv_poll_t and is aligned for any type. `closed` or the code
        // below frees it.
        let handle = unsafe { libc::calloc(1, (uv.handle_size)(uv::POLL)) };
        if handle.is_null() {
            return Err(Failure::system("calloc", nix::errno::Errno::ENOMEM));
        }
        // SAFETY: `handle` is memory for a uv_poll_t, and the loop is that of this thread. The fd lives in `self`, and
        // the handle gets a count of `self` below.
        let failed = unsafe { (uv.poll_init)(event_loop.cast(), handle, self.epoll.0.as_raw_fd()) };
        if failed != 0 {
            // SAFETY: libuv did not take it.
            unsafe { libc::free(handle) };
            return Err(Failure::system("uv_poll_init", nix::errno::Errno::from_raw(-failed)));
        }
        // SAFETY: an initialised handle of this thread. Its data is a count of `self`, which `closed` releases.
        let failed = unsafe {
            (uv.handle_set_data)(handle, Rc::into_raw(self.clone()).cast_mut().cast());
            (uv.unreference)(handle);
            (uv.poll_start)(handle, uv::READABLE, woken)
        };
        self.handle.set(handle);
        let mut hook = ptr::null_mut();
        // SAFETY: N1 and N3 of raw.rs. `closed` removes the hook before it releases the count behind the hook's
        // argument.
        let status = unsafe {
            let data = (uv.handle_get_data)(handle);
            sys::napi_add_async_cleanup_hook(self.env.raw(), Some(ending), data, &mut hook)
        };
        self.hook.set(hook);
        if failed != 0 || status != sys::Status::napi_ok {
            self.close();
            check(status, "napi_add_async_cleanup_hook")?;
            return Err(Failure::system("uv_poll_start", nix::errno::Errno::from_raw(-failed)));
        }
        Ok(())
    }

    /// Watches `endpoint`. Returns the id under which it will be reported: the lowest free id, so that JS can keep an
    /// array. A wake that comes late may reach the next owner of an id.
    pub fn add(&self, endpoint: Rc<dyn Pollable>) -> Result<u32> {
        if self.context.get().is_null() {
            return Err(Failure::closed("poller"));
        }
        let mut watched = self.watched.borrow_mut();
        let free = watched.iter().position(Option::is_none).unwrap_or(watched.len());
        let id = u32::try_from(free).map_err(|_| Failure::argument("too many endpoints"))?;
        let mut added = false;
        endpoint.with_fd(&mut |fd| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, u64::from(id));
            self.epoll.add(fd, event).map_err(|errno| Failure::system("epoll_ctl", errno))?;
            added = true;
            Ok(())
        })?;
        if !added {
            return Err(Failure::closed("endpoint"));
        }
        if free == watched.len() {
            watched.push(Some(endpoint));
        } else {
            watched[free] = Some(endpoint);
        }
        Ok(id)
    }

    /// Stops watching the endpoint `id`. Nothing happens if there is none.
    pub fn remove(&self, id: u32) -> Result<()> {
        let endpoint = self.watched.borrow_mut().get_mut(id as usize).and_then(Option::take);
        let Some(endpoint) = endpoint else { return Ok(()) };
        // The fd of a closed endpoint has already left the epoll, and another file may have its number now.
        endpoint.with_fd(&mut |fd| self.epoll.delete(fd).map_err(|errno| Failure::system("epoll_ctl", errno)))
    }

    /// Keeps the loop alive, or stops doing so. The calls are counted.
    pub fn wait(&self, waiting: bool) {
        let before = self.waiting.get();
        let after = if waiting { before.saturating_add(1) } else { before.saturating_sub(1) };
        self.waiting.set(after);
        let (handle, Some(uv)) = (self.handle.get(), Uv::get()) else { return };
        if handle.is_null() || (before == 0) == (after == 0) {
            return;
        }
        // SAFETY: a handle of this thread that is not closing, because `close` clears the field first.
        unsafe { if after > 0 { (uv.reference)(handle) } else { (uv.unreference)(handle) } };
    }

    /// Writes the ready ids into the array and makes their endpoints quiet.
    pub fn harvest(&self) -> Result<u32> {
        let (start, room) = self.ready_words()?;
        let mut events = [EpollEvent::empty(); AT_ONCE];
        let room = room.min(AT_ONCE);
        let count = match self.epoll.wait(&mut events[..room], EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(Failure::system("epoll_wait", errno)),
        };
        let mut ready = 0;
        for event in &events[..count] {
            let id = event.data() as u32;
            let Some(endpoint) = self.watched.borrow().get(id as usize).cloned().flatten() else { continue };
            if endpoint.harvest() {
                self.last.set((id, GUESSES));
            }
            // SAFETY: `ready` is below `room`, and the array was just checked to have that many words. JS does not run
            // in between (N4 of raw.rs).
            unsafe { start.add(ready).write(id) };
            ready += 1;
        }
        Ok(ready as u32)
    }

    fn ready_words(&self) -> Result<(*mut u32, usize)> {
        let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
        // SAFETY: N1 and N3 of raw.rs.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                self.env.raw(),
                self.ready.value()?,
                &mut kind,
                &mut length,
                &mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if status != sys::Status::napi_ok || kind != sys::TypedarrayType::uint32_array || length == 0 {
            return Err(Failure::argument("a Uint32Array with room for at least one id was expected"));
        }
        Ok((data.cast(), length))
    }

    /// Asks the endpoint of the last wake first. If it is ready, the epoll is not asked. The epoll need not know
    /// that: an epoll that holds another epoll checks whether that one is still ready whenever it is asked itself.
    fn guess(&self) -> Result<bool> {
        let (id, guesses) = self.last.get();
        let Some(guesses) = guesses.checked_sub(1) else { return Ok(false) };
        self.last.set((id, guesses));
        let (start, _) = self.ready_words()?;
        let endpoint = self.watched.borrow().get(id as usize).cloned().flatten();
        if !endpoint.is_some_and(|endpoint| endpoint.harvest()) {
            self.last.set((id, 0));
            return Ok(false);
        }
        // SAFETY: the array was just checked to have room for one word. JS does not run in between (N4 of raw.rs).
        unsafe { start.write(id) };
        Ok(true)
    }

    /// Handles one wake: harvests, then makes one call into JS.
    fn wake(&self) -> Result<()> {
        let count = if self.guess()? { 1 } else { self.harvest()? };
        if count == 0 {
            return Ok(());
        }
        let env = self.env.raw();
        let (mut global, mut answer) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: N1 and N3 of raw.rs.
        check(unsafe { sys::napi_get_global(env, &mut global) }, "napi_get_global")?;
        let (function, argument) = (self.on_ready.value()?, count.into_js(self.env));
        // SAFETY: N1 and N3. A handle scope is open, `context` lives until `close`, and there is one argument.
        let status = unsafe {
            sys::napi_make_callback(env, self.context.get(), global, function, 1, &argument, &mut answer)
        };
        check(status, "napi_make_callback")
    }

    /// Stops the poller. The handle is freed when libuv has released it.
    pub fn close(&self) {
        self.watched.borrow_mut().clear();
        let context = self.context.replace(ptr::null_mut());
        if !context.is_null() {
            // SAFETY: N1 of raw.rs. `context` made it, and it is destroyed once.
            unsafe { sys::napi_async_destroy(self.env.raw(), context) };
        }
        let handle = self.handle.replace(ptr::null_mut());
        if let (false, Some(uv)) = (handle.is_null(), Uv::get()) {
            // SAFETY: an initialised handle of this thread. It was not closed before, because the field was not null.
            unsafe {
                (uv.poll_stop)(handle);
                (uv.close)(handle, closed);
            }
        }
    }
}

fn context(env: Env) -> Result<sys::napi_async_context> {
    let (mut name, mut context) = (ptr::null_mut(), ptr::null_mut());
    let text = c"RINGBELL";
    // SAFETY: N1 and N3 of raw.rs. Pointer and length are those of `text`.
    let status = unsafe {
        sys::napi_create_string_utf8(env.raw(), text.as_ptr(), text.count_bytes() as isize, &mut name)
    };
    check(status, "napi_create_string_utf8")?;
    // SAFETY: N1 and N3. Without a resource, Node makes one.
    let status = unsafe { sys::napi_async_init(env.raw(), ptr::null_mut(), name, &mut context) };
    check(status, "napi_async_init")?;
    Ok(context)
}

unsafe extern "C" fn woken(handle: *mut uv::Handle, _: c_int, _: c_int) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: only `closed` releases the count in the handle's data. Another count keeps the poller alive during this
    // call, even if JS closes it.
    let poller = unsafe {
        let data = (uv.handle_get_data)(handle).cast::<Poller>().cast_const();
        Rc::increment_strong_count(data);
        Rc::from_raw(data)
    };
    let env = poller.env;
    let mut scope = ptr::null_mut();
    // SAFETY: N1 and N3 of raw.rs. libuv calls this on the environment's thread, outside of JS.
    if unsafe { sys::napi_open_handle_scope(env.raw(), &mut scope) } != sys::Status::napi_ok {
        return;
    }
    match catch_unwind(AssertUnwindSafe(|| poller.wake())) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => failure.throw(env),
        Err(payload) => Failure::panic(payload.as_ref()).throw(env),
    }
    uncaught(env);
    // SAFETY: the scope that was opened above. It is the innermost scope again.
    unsafe { sys::napi_close_handle_scope(env.raw(), scope) };
}

/// An exception of a callback has no caller that could handle it. It becomes an `uncaughtException`, as in a timer.
fn uncaught(env: Env) {
    let (mut pending, mut exception) = (false, ptr::null_mut());
    // SAFETY: N1 and N3 of raw.rs. While a worker is being terminated, these calls return an error, and no code is left
    // that could handle it.
    unsafe {
        if sys::napi_is_exception_pending(env.raw(), &mut pending) == sys::Status::napi_ok
            && pending
            && sys::napi_get_and_clear_last_exception(env.raw(), &mut exception) == sys::Status::napi_ok
        {
            sys::napi_fatal_exception(env.raw(), exception);
        }
    }
}

unsafe extern "C" fn ending(_: sys::napi_async_cleanup_hook_handle, data: *mut c_void) {
    // SAFETY: `closed` removes the hook, and only `closed` releases the count behind `data`.
    let poller = unsafe { &*data.cast::<Poller>() };
    poller.close();
}

unsafe extern "C" fn closed(handle: *mut uv::Handle) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: the count that `start` stored. It is released once, because libuv calls this once. The handle's memory is
    // owned here again. The hook is removed first, while its argument lives. The hook is null if it could not be added.
    unsafe {
        let poller = Rc::from_raw((uv.handle_get_data)(handle).cast::<Poller>().cast_const());
        let hook = poller.hook.replace(ptr::null_mut());
        drop(poller);
        libc::free(handle);
        if !hook.is_null() {
            sys::napi_remove_async_cleanup_hook(hook);
        }
    }
}
