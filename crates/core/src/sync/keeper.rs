//! The keeper of a member, on the bus thread: it hears of the deaths of other members while somebody waits.
//!
//! Invariants: a pidfd only says when to look; the lock on a member's bytes alone says whether it lives. A pid is used
//! only in its own pid namespace. A member that came after the last look wakes everybody who waits, and whoever wakes up
//! asks the keeper to look again. So a dead member is found at the latest when its pidfd fires, or in the slow pass
//! where there is none. Some time after the last wait it lets go of all pidfds. The keeper holds a member weakly, and never
//! blocks the bus thread.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::member::{Kept, Member, Tell};
use crate::error::{Error, Result};
use crate::reactor::{Step, Thread, Watched};
use crate::sys::epoll::Epoll;
use crate::sys::pidfd::PidFd;
use crate::sys::proc;

/// How often the locks are probed of members that have no pidfd here.
const PASS: Duration = Duration::from_millis(100);
/// How long the other members are still watched after a wait.
const LINGER: Duration = Duration::from_secs(1);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Keeper {
    member: Weak<Member>,
    /// Made when somebody waits for the first time.
    epoll: Option<Epoll>,
    /// The members that are watched, and which use of the place it is.
    known: HashMap<usize, (u64, Option<PidFd>)>,
    /// When to look whether anybody still waits.
    rests_at: Option<Instant>,
}

impl Keeper {
    /// Gives a new member its keeper.
    pub(super) fn begin(member: &Arc<Member>) {
        let keeper =
            Keeper { member: Arc::downgrade(member), epoll: None, known: HashMap::new(), rests_at: None };
        let handle = member.handle.clone();
        let resident = handle.add_resident(keeper);
        let tell = move |what| {
            handle.visit(resident, |keeper: &mut Keeper, _| keeper.told(what));
        };
        // It is empty: nobody else has the member yet.
        let _ = member.keeper.set(Kept { token: resident.token(), tell: Box::new(tell) });
    }

    fn told(&mut self, what: Tell) -> Step {
        match what {
            Tell::Look => return self.look(),
            Tell::Rest => self.rests_at = Some(Instant::now() + LINGER),
            Tell::Drop(member) => member.withdraw_record(),
        }
        Step::Again(self.deadline())
    }

    /// Watches every member, and finds those that are dead already.
    fn look(&mut self) -> Step {
        let Some(member) = self.member.upgrade() else { return Step::Finished };
        if member.check().is_err() {
            self.let_go();
            return Step::Again(None);
        }
        let joins = u64::from(member.table.mapped.memory().joins()) << 1 | 1;
        self.watch_all(&member);
        // An error is the member's own by now: every wait ends with it.
        let _ = member.look_for_dead(&member.table.mapped.memory().members());
        member.kept.store(joins, Ordering::Relaxed);
        // As in `rested`: the wait that this look is for may be over, and nobody told because nobody was watched yet.
        fence(Ordering::SeqCst);
        if !member.seat.is_waiting() {
            self.rests_at.get_or_insert_with(|| Instant::now() + LINGER);
        }
        Step::Again(self.deadline())
    }

    fn watch_all(&mut self, member: &Member) {
        let table = member.table.mapped.memory();
        let members = table.members();
        let epoll = self.epoll.take().map_or_else(Epoll::new, Ok);
        let gone =
            |index: &usize, generation: u64| table.who(*index).is_none_or(|(now, ..)| now != generation);
        let gone: Vec<usize> = self
            .known
            .iter()
            .filter(|(index, known)| gone(index, known.0))
            .map(|(index, _)| *index)
            .collect();
        for index in gone {
            self.forget(index, epoll.as_ref().ok());
        }
        for index in members.iter().filter(|index| *index != member.seat.member()) {
            let Some((generation, pid, namespace)) = table.who(index) else { continue };
            if self.known.get(&index).is_some_and(|(_, pidfd)| pidfd.is_some()) {
                continue;
            }
            let pidfd = epoll.as_ref().ok().and_then(|epoll| watch(epoll, index, pid, namespace));
            self.known.insert(index, (generation, pidfd));
        }
        self.epoll = epoll.ok();
    }

    /// Lets go of everything if nobody waits any more. False: somebody does, and tells when that ends.
    fn rested(&mut self) -> bool {
        self.rests_at = None;
        let Some(member) = self.member.upgrade() else { return true };
        member.kept.store(0, Ordering::Relaxed);
        member.rests.store(false, Ordering::Relaxed);
        // Pairs with those in `Member::ensure_kept` and `Member::free_place`: either a request is seen here, or the one that
        // makes it sees that nobody watches; and the one that ends it, that it has to tell.
        fence(Ordering::SeqCst);
        if member.seat.is_waiting() {
            return false;
        }
        self.let_go();
        true
    }

    fn let_go(&mut self) {
        let epoll = self.epoll.take();
        let known: Vec<usize> = self.known.keys().copied().collect();
        known.into_iter().for_each(|index| self.forget(index, epoll.as_ref()));
    }

    fn deadline(&self) -> Option<Instant> {
        let probes = self.known.values().any(|(_, pidfd)| pidfd.is_none());
        let pass = probes.then(|| Instant::now() + PASS);
        [pass, self.rests_at].into_iter().flatten().min()
    }

    fn deaths(&mut self) -> Result<()> {
        let Some(epoll) = &self.epoll else { return Ok(()) };
        let mut ready = Vec::new();
        epoll.wait(Some(Instant::now()), &mut ready)?;
        let epoll = self.epoll.take();
        for index in ready {
            self.forget(index as usize, epoll.as_ref());
        }
        self.epoll = epoll;
        Ok(())
    }

    /// A copy of the pidfd in a forked child would keep it in the epoll.
    fn forget(&mut self, index: usize, epoll: Option<&Epoll>) {
        if let Some((_, Some(pidfd))) = self.known.remove(&index)
            && let Some(epoll) = epoll
        {
            epoll.forget(pidfd.as_fd());
        }
    }
}

/// A pidfd for the member's process, if its number means that process here. The own process is not watched: if it dies,
/// nobody is left to hear of it.
fn watch(epoll: &Epoll, index: usize, pid: u32, namespace: u64) -> Option<PidFd> {
    let myself = proc::myself().ok()?;
    if namespace == 0 || namespace != myself.pid_namespace {
        return None;
    }
    let pidfd = PidFd::open_spare(pid).ok()?;
    epoll.watch(pidfd.as_fd(), index as u64).ok()?;
    Some(pidfd)
}

impl Watched for Keeper {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(Epoll::as_fd)
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        if self.rests_at.is_some_and(|at| at <= Instant::now()) && self.rested() {
            return Step::Again(None);
        }
        // What cannot be read now is found by the look that follows.
        let _ = self.deaths();
        self.look()
    }

    fn retry(&self) -> Option<Duration> {
        Some(PASS)
    }

    fn failed(&mut self, error: &Error) {
        if let Some(member) = self.member.upgrade() {
            member.end(error.clone());
        }
    }
}
