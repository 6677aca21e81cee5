//! Random bits from the kernel, for ids and nonces.

use nix::errno::Errno;

use crate::error::{Error, Result};

/// # 128 random bits as 32 lower-case hex digits
///
/// References and errors: as [`bytes128`].
pub(crate) fn hex128() -> Result<String> {
    Ok(bytes128()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// # 128 random bits
///
/// References: getrandom(2). At boot it waits until the kernel's pool is ready.
///
/// Errors: [`Error::Os`] (ENOSYS if a filter forbids it).
pub(crate) fn bytes128() -> Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: pointer and length are those of a live, writable slice.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(Error::os("getrandom", Errno::last(), "cannot make a random id")),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ() {
        let one = super::hex128().unwrap();
        assert_eq!(one.len(), 32);
        assert_ne!(one, super::hex128().unwrap());
    }
}
