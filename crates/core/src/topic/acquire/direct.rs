//! The direct rung: the kernel copies the publisher's descriptors, and the publisher does not take part.
//!
//! Invariants: a pid is used only in the pid namespace and the boot that the record names. The record's lock is
//! probed after the pidfd was opened (so the pidfd is the record's owner) and again after everything was copied (so
//! the numbers were still the announced ones). What came is checked like any peer's memory (`joined`). `want` calls this, on
//! the bus thread. It never blocks.

use super::joined::{Joined, memory_of};
use crate::bus::Directory;
use crate::handshake::{Verdict, check_alive, same_world, verdict_for};
use crate::record::Record;
use crate::segment::DurableName;
use crate::sys::eventfd::EventFd;
use crate::sys::pidfd::PidFd;

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
