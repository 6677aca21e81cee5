//! Random bits from the kernel, for ids and nonces.

use nix::errno::Errno;

use crate::error::{Error, Result};

/// # 128 random bits as 32 lower-case hex digits
///
/// References: getrandom(2). Waits, at boot, until the kernel's pool is ready.
///
/// Errors: [`Error::Os`] (ENOSYS under a filter that forbids it).
pub(crate) fn hex128() -> Result<String> {
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
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
