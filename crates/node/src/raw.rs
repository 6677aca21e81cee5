//! The raw layer under the hot calls: plain JS functions whose data pointer is a Rust object.
//!
//! A hot function takes numbers and byte arrays and returns a number or a boolean. It uses no `this` and allocates
//! nothing. All other calls go through napi-rs. The SAFETY comments of this crate refer to these rules:
//!
//! - N1: an `Env` is valid on its own thread until its last finalizer has run. Every value that holds one here is not
//!   `Send`, and it does not live longer than that, because finalizers and cleanup hooks drop it.
//! - N2: the data pointer of a hot function is one `Rc` count that the function owns. Its finalizer releases the count.
//! - N3: Node-API writes only to the out-parameters that it is given, and those are live locals.
//! - N4: JS runs on one thread, and a hot call never enters JS. So memory that JS owns stays in place during the call.
#![allow(unsafe_code)] // the reason: Node-API is a C interface

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use napi::{Env, sys};

use crate::errors::{Failure, Result};

/// A JS value of the running call.
pub type Value = sys::napi_value;

/// Turns a Node-API status into a failure that names the call.
pub fn check(status: sys::napi_status, call: &'static str) -> Result<()> {
    match status {
        sys::Status::napi_ok => Ok(()),
        sys::Status::napi_pending_exception => Err(Failure::Pending),
        other => Err(Failure::node(call, other)),
    }
}

/// What a hot function knows about its call.
pub struct Call<'a, const N: usize> {
    env: Env,
    arguments: [Value; N],
    scope: PhantomData<&'a ()>,
}

impl<'a, const N: usize> Call<'a, N> {
    /// Argument `index` as an unsigned 32-bit number.
    pub fn number(&self, index: usize) -> Result<u32> {
        let mut value = 0;
        // SAFETY: N1, N3.
        let status = unsafe { sys::napi_get_value_uint32(self.env.raw(), self.arguments[index], &mut value) };
        match status {
            sys::Status::napi_ok => Ok(value),
            _ => Err(Failure::argument("a number was expected")),
        }
    }

    /// Argument `index` as a whole number from 0 to 2^53.
    pub fn whole(&self, index: usize) -> Result<u64> {
        let mut value = 0;
        // SAFETY: N1, N3.
        let status = unsafe { sys::napi_get_value_int64(self.env.raw(), self.arguments[index], &mut value) };
        match (status, u64::try_from(value)) {
            (sys::Status::napi_ok, Ok(value)) => Ok(value),
            _ => Err(Failure::argument("a whole number that is not negative was expected")),
        }
    }

    /// Argument `index`, a `Uint8Array`, for reading during this call.
    pub fn bytes(&self, index: usize) -> Result<&'a [u8]> {
        let (data, length) = self.array(index)?;
        if length == 0 {
            return Ok(&[]);
        }
        // SAFETY: N4. V8 guarantees `length` bytes from `data`, which is not null for a length above 0.
        Ok(unsafe { std::slice::from_raw_parts(data, length) })
    }

    /// Argument `index`, a `Uint8Array`, for writing during this call.
    pub fn bytes_mut(&mut self, index: usize) -> Result<&'a mut [u8]> {
        let (data, length) = self.array(index)?;
        if length == 0 {
            return Ok(&mut []);
        }
        // SAFETY: as in `bytes`. A hot function takes one array, so this is the only reference to it.
        Ok(unsafe { std::slice::from_raw_parts_mut(data, length) })
    }

    fn array(&self, index: usize) -> Result<(*mut u8, usize)> {
        let value = self.arguments[index];
        let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
        // SAFETY: N1, N3. The null parameters are optional.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                self.env.raw(),
                value,
                &mut kind,
                &mut length,
                &mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if status != sys::Status::napi_ok || kind != sys::TypedarrayType::uint8_array {
            return Err(Failure::argument("a message must be a Uint8Array"));
        }
        if length == 0 && self.detached(value)? {
            return Err(Failure::argument(
                "the Uint8Array is detached, because its memory was transferred or given back; send another one",
            ));
        }
        Ok((data.cast(), length))
    }

    /// Whether the array is detached. It is only called for an empty array, because a detached array has length 0.
    fn detached(&self, value: Value) -> Result<bool> {
        let env = self.env.raw();
        let (mut buffer, mut detached) = (ptr::null_mut(), false);
        // SAFETY: N1, N3. `value` was just checked to be a typed array.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                env,
                value,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                &mut buffer,
                ptr::null_mut(),
            )
        };
        check(status, "napi_get_typedarray_info")?;
        // SAFETY: N1, N3.
        let status = unsafe { sys::napi_is_detached_arraybuffer(env, buffer, &mut detached) };
        check(status, "napi_is_detached_arraybuffer")?;
        Ok(detached)
    }
}

/// A descriptor that JS names by its number. It is borrowed for the length of a call.
pub fn descriptor<'a>(number: i32) -> Result<BorrowedFd<'a>> {
    if number < 0 {
        return Err(Failure::argument(format!("{number} is not the number of a descriptor")));
    }
    // SAFETY: it is not -1. The caller promises that it is open and stays open. If not, the kernel answers EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The types that a hot function may return.
pub trait Answer {
    /// The JS value; null stands for `undefined`.
    fn into_js(self, env: Env) -> Value;
}

impl Answer for () {
    fn into_js(self, _: Env) -> Value {
        ptr::null_mut()
    }
}

impl Answer for bool {
    fn into_js(self, env: Env) -> Value {
        let mut value = ptr::null_mut();
        // SAFETY: N1, N3. If it fails, `value` stays null, which is `undefined`.
        unsafe { sys::napi_get_boolean(env.raw(), self, &mut value) };
        value
    }
}

impl Answer for i32 {
    fn into_js(self, env: Env) -> Value {
        let mut value = ptr::null_mut();
        // SAFETY: N1, N3. If it fails, `value` stays null, which is `undefined`.
        unsafe { sys::napi_create_int32(env.raw(), self, &mut value) };
        value
    }
}

impl Answer for u32 {
    fn into_js(self, env: Env) -> Value {
        let mut value = ptr::null_mut();
        // SAFETY: N1, N3. If it fails, `value` stays null, which is `undefined`.
        unsafe { sys::napi_create_uint32(env.raw(), self, &mut value) };
        value
    }
}

impl Answer for f64 {
    fn into_js(self, env: Env) -> Value {
        let mut value = ptr::null_mut();
        // SAFETY: N1, N3. If it fails, `value` stays null, which is `undefined`.
        unsafe { sys::napi_create_double(env.raw(), self, &mut value) };
        value
    }
}

/// A plain object under construction. Its properties are hot functions over `cell`.
pub struct HotObject<'a, T> {
    env: Env,
    object: Value,
    cell: &'a Rc<T>,
}

impl<'a, T: 'static> HotObject<'a, T> {
    /// An empty object.
    pub fn new(env: Env, cell: &'a Rc<T>) -> Result<Self> {
        let mut object = ptr::null_mut();
        // SAFETY: N1, N3.
        check(unsafe { sys::napi_create_object(env.raw(), &mut object) }, "napi_create_object")?;
        Ok(Self { env, object, cell })
    }

    /// Adds the function `name`. `body` must capture nothing, because it is compiled into a callback of its own.
    pub fn function<const N: usize, A: Answer, F>(self, name: &'static CStr, body: F) -> Result<Self>
    where
        F: Fn(&T, &mut Call<'_, N>) -> Result<A> + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a hot function captures nothing") };
        let _ = body;
        let env = self.env.raw();
        let data = Rc::into_raw(self.cell.clone()).cast_mut().cast::<c_void>();
        let mut function = ptr::null_mut();
        // SAFETY: N1, N3. `data` is the count of N2. `trampoline` reads it with its true type `T`.
        let mut status = unsafe {
            sys::napi_create_function(
                env,
                name.as_ptr(),
                name.count_bytes() as isize,
                Some(trampoline::<T, A, F, N>),
                data,
                &mut function,
            )
        };
        if status == sys::Status::napi_ok {
            // SAFETY: N1. From here on the finalizer owns the count (N2).
            status = unsafe {
                sys::napi_add_finalizer(
                    env,
                    function,
                    data,
                    Some(give_up::<T>),
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            };
        }
        if status != sys::Status::napi_ok {
            // SAFETY: no finalizer was registered, so the count is still owned here, and JS cannot reach the function.
            drop(unsafe { Rc::from_raw(data.cast::<T>().cast_const()) });
            check(status, "napi_create_function")?;
        }
        // SAFETY: N1. Both values belong to the running call.
        let status = unsafe { sys::napi_set_named_property(env, self.object, name.as_ptr(), function) };
        check(status, "napi_set_named_property")?;
        Ok(self)
    }

    /// The finished object.
    pub fn finish(self) -> Value {
        self.object
    }
}

unsafe extern "C" fn trampoline<T, A, F, const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> Value
where
    A: Answer,
    F: Fn(&T, &mut Call<'_, N>) -> Result<A> + Copy + 'static,
{
    let (mut arguments, mut count, mut data) = ([ptr::null_mut(); N], N, ptr::null_mut());
    // SAFETY: Node calls this with a live env and info. There is room for N arguments, and missing ones become
    // undefined.
    let status = unsafe {
        sys::napi_get_cb_info(env, info, &mut count, arguments.as_mut_ptr(), ptr::null_mut(), &mut data)
    };
    if status != sys::Status::napi_ok || data.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: N2. The called function owns a count of this `T`.
    let cell = unsafe { &*data.cast::<T>() };
    // SAFETY: F has no size (checked when the function was made) and is Copy. A value of it was given when the function
    // was made. So any aligned pointer reads as another copy of it.
    let body = unsafe { ptr::NonNull::<F>::dangling().as_ptr().read() };
    let env = Env::from_raw(env);
    let mut call = Call { env, arguments, scope: PhantomData };
    match catch_unwind(AssertUnwindSafe(|| body(cell, &mut call))) {
        Ok(Ok(answer)) => answer.into_js(env),
        Ok(Err(failure)) => failed(env, failure),
        Err(payload) => failed(env, Failure::panic(payload.as_ref())),
    }
}

#[cold]
fn failed(env: Env, failure: Failure) -> Value {
    failure.throw(env);
    ptr::null_mut()
}

unsafe extern "C" fn give_up<T>(_: sys::napi_env, data: *mut c_void, _: *mut c_void) {
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: N2. This is the count of the function that was just collected. A finalizer runs once.
        drop(unsafe { Rc::from_raw(data.cast::<T>().cast_const()) });
    }));
    // A panic in a destructor has no caller that could handle it. The value that it held is leaked.
    let _ = dropped;
}

/// A strong reference to a JS object. It is released on drop.
pub struct Reference {
    env: Env,
    raw: sys::napi_ref,
}

impl Reference {
    /// Keeps `value`, an object of the running call, alive.
    pub fn new(env: Env, value: Value) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: N1, N3.
        let status = unsafe { sys::napi_create_reference(env.raw(), value, 1, &mut raw) };
        check(status, "napi_create_reference")?;
        Ok(Self { env, raw })
    }

    /// The object, as a value of the running handle scope.
    pub fn value(&self) -> Result<Value> {
        let mut value = ptr::null_mut();
        // SAFETY: N1, N3. The reference lives until the drop.
        let status = unsafe { sys::napi_get_reference_value(self.env.raw(), self.raw, &mut value) };
        check(status, "napi_get_reference_value")?;
        Ok(value)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: N1. `new` made it, and it is deleted once. A failure cannot be handled here.
        unsafe { sys::napi_delete_reference(self.env.raw(), self.raw) };
    }
}
