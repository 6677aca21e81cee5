//! Failures, and how they become JS errors. Each error has a `code`, and where there is one, `syscall` and `errno` (its
//! name). Its message is a sentence like those of the TypeScript side.
//!
//! Invariant: every function that JS calls ends in `throw` or in `cold`. So no panic and no bare status reaches JS. The
//! codes are those of the core. This crate adds one code, for its own bugs.
#![allow(unsafe_code)] // the reason: errors with properties are made by Node-API's C calls

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use napi::{Env, Status, sys};
use nix::errno::Errno;
use ringbell::Error;

/// The code of a failure that is a bug of this library.
pub const INTERNAL: &str = "ERR_RINGBELL_INTERNAL";

/// The result of this crate's functions, before it becomes a JS value or exception.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// The core returned an error.
    Core(Error),
    /// An argument has the wrong type or form.
    Argument(String),
    /// Node-API or the binding itself misbehaved.
    Internal(String),
    /// A JS exception is already pending.
    Pending,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl Failure {
    /// An argument of the wrong form.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::Argument(message.into())
    }

    /// A system call of the binding itself that failed.
    pub fn system(syscall: &'static str, errno: Errno) -> Self {
        Self::Core(Error::os(syscall, errno, "the binding cannot go on"))
    }

    /// A closed object was used.
    pub fn closed(what: &'static str) -> Self {
        Self::Core(Error::Closed { what })
    }

    /// A Node-API call that failed.
    pub fn node(call: &'static str, status: sys::napi_status) -> Self {
        Self::Internal(format!("{call} failed: {}", Status::from(status)))
    }

    /// A panic that was caught at the boundary.
    pub fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::Internal(format!("a bug in ringbell, please report it: {text}"))
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Core(error) => error.code(),
            Self::Argument(_) => "ERR_RINGBELL_INVALID_OPTION",
            Self::Internal(_) | Self::Pending => INTERNAL,
        }
    }

    fn message(&self) -> String {
        sentence(&match self {
            Self::Core(error) => error.to_string(),
            Self::Argument(message) | Self::Internal(message) => message.clone(),
            Self::Pending => "an exception is pending".to_owned(),
        })
    }

    /// Throws the failure into JS. While the environment shuts down, an exception is impossible, and none is thrown.
    pub fn throw(self, env: Env) {
        if matches!(self, Self::Pending) {
            return;
        }
        if let Some(error) = self.error(env) {
            // SAFETY: N1 of raw.rs. `error` is an error object of the running call.
            unsafe { sys::napi_throw(env.raw(), error) };
        }
    }

    fn error(&self, env: Env) -> Option<sys::napi_value> {
        let (code, message) = (string(env, self.code())?, string(env, &self.message())?);
        let mut error = ptr::null_mut();
        // SAFETY: N1 and N3 of raw.rs.
        let status = unsafe {
            match self {
                Self::Argument(_) => sys::napi_create_type_error(env.raw(), code, message, &mut error),
                _ => sys::napi_create_error(env.raw(), code, message, &mut error),
            }
        };
        if status != sys::Status::napi_ok {
            return None;
        }
        let (syscall, errno) = match self {
            Self::Core(error) => (error.syscall(), errno_name(error)),
            _ => (None, None),
        };
        for (name, text) in [(c"syscall", syscall), (c"errno", errno.as_deref())] {
            if let Some(value) = text.and_then(|text| string(env, text)) {
                // SAFETY: N1 of raw.rs. If this fails, the error lacks the property and is still valid.
                unsafe { sys::napi_set_named_property(env.raw(), error, name.as_ptr(), value) };
            }
        }
        Some(error)
    }
}

/// Errors of Rust begin small and have no full stop. Those that JS users see are sentences.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    first.into_iter().chain(letters).chain(end.chars()).collect()
}

/// The name of the errno, such as `EACCES`.
pub fn errno_name(error: &Error) -> Option<String> {
    error.errno().map(|errno| format!("{:?}", Errno::from_raw(errno)))
}

fn string(env: Env, text: &str) -> Option<sys::napi_value> {
    let mut value = ptr::null_mut();
    // SAFETY: N1 and N3 of raw.rs. Pointer and length are those of a live `str`.
    let status = unsafe {
        sys::napi_create_string_utf8(env.raw(), text.as_ptr().cast(), text.len() as isize, &mut value)
    };
    (status == sys::Status::napi_ok).then_some(value)
}

/// Runs a cold call. A failure or panic of it is thrown here; napi-rs only learns that an exception is pending.
pub fn cold<T>(env: Env, call: impl FnOnce() -> Result<T>) -> napi::Result<T> {
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::panic(payload.as_ref()),
    };
    failure.throw(env);
    Err(napi::Error::new(Status::PendingException, String::new()))
}
