//! The direct rung: the kernel copies the publisher's descriptors, and the publisher does not take part.
//!
//! Invariants: a pid is used only in the pid namespace and the boot that the record names. The record's lock is
//! probed after the pidfd was opened (so the pidfd is the record's owner) and again after everything was copied (so
//! the numbers were still the announced ones). What came is checked like any peer's memory (`joined`). Only
//! `verdict_for` decides what an errno means. `want` calls this, on the bus thread. It never blocks.

use nix::errno::Errno;

use super::joined::{Joined, memory_of};
use crate::Error;
use crate::bus::Directory;
use crate::handshake::{Verdict, check_alive};
use crate::record::Record;
use crate::segment::DurableName;
use crate::sys::eventfd::EventFd;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::myself;

/// Acquires everything, or answers what to do instead.
pub(super) fn acquire(
    directory: &Directory,
    record: &Record,
    durable: Option<&DurableName>,
) -> Result<(Joined, EventFd), Verdict> {
    let topic = record.topic()?;
    let memory = memory_of(topic)?;
    same_world(record)?;
    let process = PidFd::open(record.pid).map_err(|errno| verdict_for("pidfd_open", errno))?;
    check_alive(directory, record)?;
    let copy = |number| process.getfd(number).map_err(|errno| verdict_for("pidfd_getfd", errno));
    let (data, control, room) = (copy(memory.data.fd)?, copy(memory.control.fd)?, copy(memory.room.fd)?);
    let joined = Joined::new(data, control, room, topic, durable);
    let acquired = joined.map_err(Verdict::of).and_then(|joined| {
        let announced = joined.doorbell(topic)?;
        let doorbell = EventFd::from_peer(copy(announced.fd)?, announced.id)?;
        joined.publisher_lives()?;
        Ok((joined, doorbell))
    });
    // A process that has gone or has closed the topic in the meantime is not to blame for what came from it.
    if !process.is_alive() {
        return Err(Verdict::Gone);
    }
    check_alive(directory, record)?;
    acquired
}

/// A pid means something only in its own boot and pid namespace.
fn same_world(record: &Record) -> Result<(), Verdict> {
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

fn verdict_for(call: &'static str, errno: Errno) -> Verdict {
    match errno {
        Errno::ENOSYS => {
            Verdict::closed(errno, format!("{call} is not there: it needs Linux 5.6, or a filter hides it"))
        }
        Errno::EPERM | Errno::EACCES => Verdict::closed(
            errno,
            format!(
                "{call} is not permitted: Yama or a seccomp filter (the publisher may set allowDirect), or it is another user's"
            ),
        ),
        Errno::EINVAL => Verdict::closed(errno, format!("{call} does not know that pid here")),
        Errno::ESRCH => Verdict::Gone,
        Errno::EBADF => Verdict::Stale,
        errno => Verdict::Fail(Error::os(call, errno, "cannot acquire a publisher's descriptors")),
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
