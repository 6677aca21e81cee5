//! What every direct acquisition decides in the same way: whether a record's pid means a process here, and what an errno
//! of the kernel means for the ladder.
//!
//! Only `verdict_for` decides what an errno means. Topics and `sync` acquire directly, and call this on the bus thread.

use nix::errno::Errno;

use super::verdict::Verdict;
use crate::Error;
use crate::record::Record;
use crate::sys::proc::myself;

/// A pid means something only in its own boot and pid namespace.
pub(crate) fn same_world(record: &Record) -> Result<(), Verdict> {
    let here = myself()?;
    if record.boot_id.is_empty() || record.boot_id != here.boot_id {
        return Err(Verdict::Next {
            code: "BOOT".into(),
            reason: "its record is of another boot, or does not say".into(),
        });
    }
    if record.pid_namespace == 0 || record.pid_namespace != here.pid_namespace {
        let reason = "it runs in another pid namespace, where its pid number means nothing here";
        return Err(Verdict::Next { code: "PID_NAMESPACE".into(), reason: reason.into() });
    }
    Ok(())
}

pub(crate) fn verdict_for(call: &'static str, errno: Errno) -> Verdict {
    match errno {
        Errno::ENOSYS => {
            Verdict::closed(errno, format!("{call} is not there: it needs Linux 5.6, or a filter hides it"))
        }
        Errno::EPERM | Errno::EACCES => Verdict::closed(
            errno,
            format!(
                "{call} is not permitted: Yama or a seccomp filter (a publisher may set allowDirect), or it is another user's"
            ),
        ),
        Errno::EINVAL => Verdict::closed(errno, format!("{call} does not know that pid here")),
        Errno::ESRCH => Verdict::Gone,
        Errno::EBADF => Verdict::Stale,
        errno => Verdict::Fail(Error::os(call, errno, "cannot acquire a peer's descriptors")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_meaning() {
        let next = |errno| matches!(verdict_for("pidfd_getfd", errno), Verdict::Next { .. });
        assert!([Errno::ENOSYS, Errno::EPERM, Errno::EACCES, Errno::EINVAL].into_iter().all(next));
        assert!(matches!(verdict_for("pidfd_open", Errno::ESRCH), Verdict::Gone));
        assert!(matches!(verdict_for("pidfd_getfd", Errno::EBADF), Verdict::Stale));
        let Verdict::Fail(error) = verdict_for("pidfd_getfd", Errno::EMFILE) else { panic!() };
        assert_eq!(error.code(), "ERR_RINGBELL_RESOURCE");
    }
}
