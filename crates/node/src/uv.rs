//! The few libuv calls behind the poller, looked up in the running process.
//!
//! Node exports its libuv, but an add-on that links to those symbols would not load where they are missing (Deno). So
//! the functions are looked up by name, once. The running libuv reports the size of a handle. Bun has the symbols and
//! aborts in them, so the caller decides whether a loop is used at all.
#![allow(unsafe_code)] // the reason: dlsym, and C function pointers

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute_copy;
use std::sync::OnceLock;

/// A `uv_loop_t`. Its content is never read.
pub type Loop = c_void;
/// A `uv_handle_t`. Its content is never read.
pub type Handle = c_void;
/// `uv_close_cb`.
pub type CloseCallback = unsafe extern "C" fn(*mut Handle);
/// `uv_poll_cb`.
pub type PollCallback = unsafe extern "C" fn(*mut Handle, c_int, c_int);

/// `UV_POLL` of `uv_handle_type`.
pub const POLL: c_int = 8;
/// `UV_READABLE`.
pub const READABLE: c_int = 1;

/// The functions of the running process. They exist since libuv 1.19 and Node 10.
pub struct Uv {
    pub handle_size: unsafe extern "C" fn(c_int) -> usize,
    pub handle_set_data: unsafe extern "C" fn(*mut Handle, *mut c_void),
    pub handle_get_data: unsafe extern "C" fn(*const Handle) -> *mut c_void,
    pub poll_init: unsafe extern "C" fn(*mut Loop, *mut Handle, c_int) -> c_int,
    pub poll_start: unsafe extern "C" fn(*mut Handle, c_int, PollCallback) -> c_int,
    pub poll_stop: unsafe extern "C" fn(*mut Handle) -> c_int,
    pub close: unsafe extern "C" fn(*mut Handle, CloseCallback),
    pub reference: unsafe extern "C" fn(*mut Handle),
    pub unreference: unsafe extern "C" fn(*mut Handle),
}

impl Uv {
    /// The functions. `None` if one is missing.
    pub fn get() -> Option<&'static Self> {
        static UV: OnceLock<Option<Uv>> = OnceLock::new();
        UV.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        // SAFETY: each symbol is libuv's public function of that name. The field's type repeats its C signature.
        unsafe {
            Some(Self {
                handle_size: function(c"uv_handle_size")?,
                handle_set_data: function(c"uv_handle_set_data")?,
                handle_get_data: function(c"uv_handle_get_data")?,
                poll_init: function(c"uv_poll_init")?,
                poll_start: function(c"uv_poll_start")?,
                poll_stop: function(c"uv_poll_stop")?,
                close: function(c"uv_close")?,
                reference: function(c"uv_ref")?,
                unreference: function(c"uv_unref")?,
            })
        }
    }
}

/// The function of this name in the running process.
///
/// # Safety
///
/// `F` is a function pointer with the C signature of the function of this name.
unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: RTLD_DEFAULT and a C string are valid arguments. dlsym has no other preconditions.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: it has the size of a pointer, is not null, and has the right type by the contract above.
    (!found.is_null()).then(|| unsafe { transmute_copy::<*mut c_void, F>(&found) })
}
