//! ArrayBuffers over memory that Rust owns: mappings, large messages, and the small tables of the hot calls.
//!
//! Invariant: each external ArrayBuffer owns the value that keeps its memory alive (an `Arc`, a boxed slice), and its
//! finalizer drops that value. So memory outlives every view of it. An endpoint that closes detaches its buffers first,
//! so JS sees length 0 and no unmapped memory. This module must never make two ArrayBuffers over one mapping, which is
//! fatal in old V8s. Callers keep theirs in an `External`.
#![allow(unsafe_code)] // the reason: raw memory is handed to V8

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use napi::bindgen_prelude::Unknown;
use napi::{Env, sys};
use ringbell::Error;
use ringbell::segment::{MappedData, PrivateBuffer};
use ringbell::topic::Entry;

use crate::errors::{Failure, Result};
use crate::raw::{Reference, Value, check};

/// An owner of memory that may be handed to V8.
///
/// # Safety
///
/// `memory` returns the same range as long as the owner lives, even when the owner is moved. The range is mapped
/// readable. No Rust reference to it exists while JS can run.
pub unsafe trait Memory: 'static {
    /// Start and length in bytes.
    fn memory(&self) -> (NonNull<u8>, usize);
}

/// The frames of a data segment, twice in a row.
pub struct Frames(pub Arc<MappedData>);

// SAFETY: `MappedData` maps `2 * capacity` bytes of frames for as long as it lives. Its contract is that no code makes
// a reference into them.
unsafe impl Memory for Frames {
    fn memory(&self) -> (NonNull<u8>, usize) {
        (self.0.frames_ptr(), 2 * self.0.capacity())
    }
}

/// The private buffer that holds the windows of a `drop-oldest` topic.
pub struct Prepared(pub Arc<PrivateBuffer>);

// SAFETY: `PrivateBuffer` maps `len` bytes for as long as it lives, and only copies out of them.
unsafe impl Memory for Prepared {
    fn memory(&self) -> (NonNull<u8>, usize) {
        let start = NonNull::new(self.0.as_mut_ptr());
        start.map_or((NonNull::dangling(), 0), |start| (start, self.0.len()))
    }
}

/// Bytes that belong to JS from now on, and the environment whose garbage collector counts them.
struct Given {
    bytes: NonNull<[u8]>,
    env: Env,
}

impl Given {
    fn new(env: Env, bytes: Vec<u8>) -> Self {
        account(env, bytes.len() as i64);
        Self { bytes: NonNull::from(Box::leak(bytes.into_boxed_slice())), env }
    }
}

// SAFETY: a leaked boxed slice stays where it is until the drop below, and no reference to it exists.
unsafe impl Memory for Given {
    fn memory(&self) -> (NonNull<u8>, usize) {
        (self.bytes.cast(), self.bytes.len())
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        account(self.env, -(self.bytes.len() as i64));
        // SAFETY: `new` leaked it. It is taken back once, when no view of it is left.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

/// A `Uint8Array` of these bytes. They are copied only where this runtime refuses external buffers.
pub fn given(env: Env, bytes: Vec<u8>) -> Result<Value> {
    let length = bytes.len();
    let buffer = match external(env, Given::new(env, bytes))? {
        Ok(buffer) => buffer,
        Err(refused) => {
            let (buffer, start) = own(env, length)?;
            // SAFETY: V8 made an ArrayBuffer of `length` bytes at `start`. `refused` holds as many bytes at another
            // address.
            unsafe { start.as_ptr().copy_from_nonoverlapping(refused.memory().0.as_ptr(), length) };
            buffer
        }
    };
    typed(env, sys::TypedarrayType::uint8_array, length, buffer)
}

/// An ordinary ArrayBuffer, and its address.
pub fn own(env: Env, length: usize) -> Result<(Value, NonNull<u8>)> {
    let (mut start, mut buffer) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: N1 and N3 of raw.rs.
    let status = unsafe { sys::napi_create_arraybuffer(env.raw(), length, &mut start, &mut buffer) };
    check(status, "napi_create_arraybuffer")?;
    Ok((buffer, NonNull::new(start.cast()).unwrap_or(NonNull::dangling())))
}

/// Reports to the garbage collector how much memory is behind small objects, so that it runs before there is too
/// much.
pub fn account(env: Env, bytes: i64) {
    let mut total = 0;
    // SAFETY: N1 and N3 of raw.rs. After a failure only the collector's estimate is wrong.
    unsafe { sys::napi_adjust_external_memory(env.raw(), bytes, &mut total) };
}

/// An ArrayBuffer over the memory of `owner`, which lives until V8 releases the buffer. `Ok(Err(owner))`: this runtime
/// refuses external buffers (Electron), or `RINGBELL_BUFFERS=copy` makes this function refuse them.
pub fn external<M: Memory>(env: Env, owner: M) -> Result<std::result::Result<Value, M>> {
    static COPY: OnceLock<bool> = OnceLock::new();
    if *COPY.get_or_init(|| std::env::var_os("RINGBELL_BUFFERS").is_some_and(|value| value == "copy")) {
        return Ok(Err(owner));
    }
    let (start, length) = owner.memory();
    let hint = Box::into_raw(Box::new(owner));
    let mut value = ptr::null_mut();
    // SAFETY: N1 and N3 of raw.rs. The range is valid as long as `*hint` lives (contract of `Memory`), and `finish`
    // ends that life.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env.raw(),
            start.as_ptr().cast(),
            length,
            Some(finish::<M>),
            hint.cast(),
            &mut value,
        )
    };
    if status == sys::Status::napi_ok {
        return Ok(Ok(value));
    }
    // SAFETY: Node-API calls no finalizer for a buffer that it refused, so `hint` is still owned here alone.
    let owner = unsafe { Box::from_raw(hint) };
    if status == sys::Status::napi_no_external_buffers_allowed {
        return Ok(Err(*owner));
    }
    check(status, "napi_create_external_arraybuffer").map(|()| Err(*owner))
}

unsafe extern "C" fn finish<M: Memory>(_: sys::napi_env, _: *mut c_void, hint: *mut c_void) {
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `hint` is the box that `external` made. A finalizer runs once, after the last view is gone.
        drop(unsafe { Box::from_raw(hint.cast::<M>()) });
    }));
    // A panic in a destructor has no caller that could handle it. The value that it held is leaked.
    let _ = dropped;
}

/// The one ArrayBuffer over a mapping. It is kept so that closing can detach it.
pub struct External {
    env: Env,
    buffer: Reference,
}

impl External {
    /// Makes the ArrayBuffer. Fails where the runtime refuses external buffers.
    pub fn new<M: Memory>(env: Env, owner: M) -> Result<Self> {
        let buffer = external(env, owner)?.map_err(|_| {
            let what = "views of shared memory, because this runtime refuses external buffers; copy instead"
                .to_owned();
            Failure::Core(Error::UnsupportedPlatform { what })
        })?;
        Ok(Self { env, buffer: Reference::new(env, buffer)? })
    }

    /// The ArrayBuffer.
    pub fn value(&self) -> Result<Unknown<'static>> {
        Ok(unknown(self.env, self.buffer.value()?))
    }

    /// Makes every view of it empty. The memory itself is released when V8 runs the finalizer.
    pub fn detach(self) {
        if let Ok(buffer) = self.buffer.value() {
            // SAFETY: N1 of raw.rs. `buffer` is an ArrayBuffer. If it is already detached, nothing changes.
            unsafe { sys::napi_detach_arraybuffer(self.env.raw(), buffer) };
        }
    }
}

/// A value that a napi-rs function can return.
pub fn unknown(env: Env, value: Value) -> Unknown<'static> {
    // SAFETY: `value` was made in the running call, which returns it at once.
    unsafe { Unknown::from_raw_unchecked(env.raw(), value) }
}

/// A typed array over a whole ArrayBuffer.
pub fn typed(env: Env, kind: sys::napi_typedarray_type, length: usize, buffer: Value) -> Result<Value> {
    let mut array = ptr::null_mut();
    // SAFETY: N1 and N3 of raw.rs. V8 checks kind and length against the buffer.
    let status = unsafe { sys::napi_create_typedarray(env.raw(), kind, length, buffer, 0, &mut array) };
    check(status, "napi_create_typedarray")?;
    Ok(array)
}

/// An element type of a table. Any bits that JS may write are a valid value of it.
pub trait Element: Copy + Default + 'static {
    /// The typed array that shows it in JS.
    const KIND: sys::napi_typedarray_type;
    /// How many elements of that array one value takes.
    const WORDS: usize = 1;
}

impl Element for u8 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::uint8_array;
}

impl Element for u32 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::uint32_array;
}

impl Element for Entry {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::uint32_array;
    const WORDS: usize = size_of::<Entry>() / size_of::<u32>();
}

impl Element for f64 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::float64_array;
}

/// A small array that Rust and JS share on the JS thread: scratch words, lengths, or the message table.
pub struct Table<E: Element> {
    memory: Owned<E>,
    env: Env,
    array: Reference,
}

/// The memory of a table. It is in Rust, or in V8 where external buffers are refused (then the array keeps it alive).
struct Owned<E> {
    start: NonNull<E>,
    length: usize,
    _keep: Option<Rc<Box<[UnsafeCell<E>]>>>,
}

// SAFETY: the boxed slice lives on the heap as long as `_keep`. `Table` returns no reference that lasts.
unsafe impl<E: Element> Memory for Owned<E> {
    fn memory(&self) -> (NonNull<u8>, usize) {
        (self.start.cast(), self.length * size_of::<E>())
    }
}

impl<E: Element> Table<E> {
    /// A table of `length` zeros.
    pub fn new(env: Env, length: usize) -> Result<Self> {
        let keep: Rc<Box<[UnsafeCell<E>]>> =
            Rc::new((0..length).map(|_| UnsafeCell::new(E::default())).collect());
        let start = NonNull::from(&**keep).cast::<E>();
        let owned = || Owned { start, length, _keep: Some(keep.clone()) };
        let (memory, buffer) = match external(env, owned())? {
            Ok(buffer) => (owned(), buffer),
            Err(_) => Self::inside(env, length)?,
        };
        let array = Reference::new(env, typed(env, E::KIND, length * E::WORDS, buffer)?)?;
        Ok(Self { memory, env, array })
    }

    fn inside(env: Env, length: usize) -> Result<(Owned<E>, Value)> {
        let (mut start, mut buffer) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: N1 and N3 of raw.rs. V8 never moves the memory of an ArrayBuffer, and aligns it to 8 bytes.
        let status = unsafe {
            sys::napi_create_arraybuffer(env.raw(), length * size_of::<E>(), &mut start, &mut buffer)
        };
        check(status, "napi_create_arraybuffer")?;
        let start = NonNull::new(start.cast::<E>())
            .ok_or_else(|| Failure::Internal("an ArrayBuffer without memory".to_owned()))?;
        Ok((Owned { start, length, _keep: None }, buffer))
    }

    /// The typed array.
    pub fn array(&self) -> Result<Unknown<'static>> {
        Ok(unknown(self.env, self.array.value()?))
    }

    /// Stores one element.
    pub fn set(&self, index: usize, value: E) {
        assert!(index < self.memory.length);
        // SAFETY: in bounds. The memory lives as long as `self`, and by N4 of raw.rs JS does not access it now.
        unsafe { self.memory.start.add(index).write(value) };
    }

    /// Runs `body` over the table. It must not enter JS.
    pub fn with<R>(&self, body: impl FnOnce(&mut [E]) -> R) -> R {
        // SAFETY: the memory lives as long as `self`, and N4 of raw.rs keeps JS away from it. Hot calls do not nest, so
        // there is one such slice at a time.
        body(unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr(), self.memory.length) })
    }
}
