//! A member of a service group: the part of one process in a pool of which one is primary at a time.
//!
//! Invariant: a member is primary only while it holds the claim named as the group. It announces the end of a term before it
//! gives the claim back. All of this happens in the calls of its user: no thread acts or answers in its place, so a program that
//! hangs does not answer its manager. Its control service `<group>.member` is described in docs/protocol.md, and the same as that of
//! the npm package. It must never wait, except in `wait_primary`.

mod control;
mod options;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::bus::{Bus, Claim, ClaimWatch, Claiming, GroupRecord, Role};
use crate::channel::{Channel, ServerOptions};
use crate::error::{Error, Result};
use crate::sys::epoll::Epoll;
use crate::sys::timerfd::TimerFd;
use control::{Asked, Status};

pub use options::MemberOptions;

/// After a step-down, the longest time that the other members have to take the claim before this one asks for it again.
const YIELD: Duration = Duration::from_secs(1);
/// After a failure, the time until it tries again.
const PAUSE: Duration = Duration::from_secs(1);
/// Messages of managers that one update looks at, so that none of them can keep it from its caller.
const MOST_ASKED: usize = 64;
/// What the epoll reports. Nobody looks at it: each call looks at everything.
const ANYTHING: u64 = 0;

/// What has happened to a member, as [`Member::update`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is primary, in this epoch. Announce it: [`Publisher::set_group`](crate::topic::Publisher::set_group).
    Primary(u64),
    /// Its claim was lost. Another process may be primary, so stop at once what it does as primary.
    Lost,
    /// A manager asks it to step down: stop, and call [`Member::step_down`].
    StepDown,
    /// A manager asks it to step down for good: stop, and call [`Member::drain`].
    Drain,
}

/// How far it is with the claim.
enum Place {
    /// It asks for it.
    Asks(Claiming),
    /// It is primary.
    Holds(Claim),
    /// It has stepped down, and lets others have it until then.
    Yields(ClaimWatch, Instant),
    /// It asks for it from then on.
    Later(Instant),
    /// It does not want it any more.
    Drained,
}

/// A process's part in a service group, until it is dropped.
///
/// `as_fd` is readable when there is something for [`update`](Self::update), for use in an event loop.
///
/// ```
/// # use std::time::Duration;
/// # use ringbell::bus::{Bus, BusOptions};
/// use ringbell::group::MemberOptions;
/// use ringbell::topic::PublisherOptions;
/// # let folder = tempfile::tempdir().unwrap();
/// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
/// let mut member = bus.join("price", MemberOptions::default())?;
/// let mut ticks = bus.publisher("ticks", PublisherOptions::default().group(member.group()))?;
/// assert_eq!(ticks.send(b"early").unwrap_err().code(), "ERR_RINGBELL_NOT_PRIMARY");
///
/// let epoch = member.wait_primary(Some(Duration::from_secs(30)))?;
/// ticks.set_group(member.group())?;
/// assert!(epoch.is_some() && ticks.send(b"tick")?);
/// # Ok::<(), ringbell::Error>(())
/// ```
pub struct Member {
    name: String,
    /// Before the place, so that its record is withdrawn before the claim is given back.
    control: Channel,
    place: Place,
    group: GroupRecord,
    metadata: Map<String, Value>,
    /// Requests for a step-down that were not answered yet.
    asked: Vec<Asked>,
    /// When to look at what managers have asked beyond what one update takes in.
    behind: Option<Instant>,
    /// When to write the record again, which could not be written and does not say the role.
    untold: Option<Instant>,
    /// An error that the caller has not been told.
    failure: Option<Error>,
    last_beat: Option<Instant>,
    /// Wakes when something is to be tried again.
    timer: TimerFd,
    epoll: Epoll,
    bus: Bus,
}

impl Bus {
    /// Joins a service group. The member asks for the claim of that name from now on.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, and the errors of
    /// [`Bus::claiming`].
    pub fn join(&self, group: &str, options: MemberOptions) -> Result<Member> {
        options.check()?;
        let last_beat = options.manual_heartbeat.then(Instant::now);
        let claiming = self.claiming(group, true)?;
        let mut server = ServerOptions::default().codec("json");
        server.access = options.access;
        let mut member = Member {
            name: group.to_owned(),
            control: self.serve(&control::name(group), server)?,
            place: Place::Asks(claiming),
            group: GroupRecord::NEW,
            metadata: options.metadata,
            asked: Vec::new(),
            behind: None,
            untold: None,
            failure: None,
            last_beat,
            timer: TimerFd::new()?,
            epoll: Epoll::new()?,
            bus: self.clone(),
        };
        member.epoll.watch(member.control.as_fd(), ANYTHING)?;
        member.epoll.watch(member.timer.as_fd(), ANYTHING)?;
        member.watch_place()?;
        member.tell()?;
        if !member.control.arm() {
            // A manager was quicker, and does not ring for what it asks now. So the first look comes at once.
            member.timer.set(Some(Instant::now()))?;
        }
        Ok(member)
    }
}

impl Member {
    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its role, for the records of its servers and publishers.
    pub fn group(&self) -> GroupRecord {
        self.group
    }

    /// The epoch of the present term. `None`: it is a standby, or its claim is lost.
    pub fn term(&self) -> Option<u64> {
        match &self.place {
            Place::Holds(claim) if !claim.is_lost() => self.group.term(),
            _ => None,
        }
    }

    /// Whether it is primary.
    pub fn is_primary(&self) -> bool {
        self.term().is_some()
    }

    /// The work goes on. Only with [`MemberOptions::manual_heartbeat`] does anybody ask for it.
    pub fn beat(&mut self) {
        if let Some(last) = &mut self.last_beat {
            *last = Instant::now();
        }
    }

    /// Takes in what has happened, and answers managers. `None`: nothing that concerns the caller. Call it again until then.
    ///
    /// # Errors
    ///
    /// When the claim cannot be had, or the record cannot be written. A second later `as_fd` is readable, and the next call tries again.
    /// Nothing is lost by that: changes are told and managers are answered first.
    pub fn update(&mut self) -> Result<Option<Change>> {
        self.control.harvest()?;
        let contended = self.contend();
        if let Some(change) = self.noted(contended).flatten() {
            return Ok(Some(change));
        }
        if let Some(change) = self.answer()? {
            return Ok(Some(change));
        }
        if self.untold.is_some_and(|again| Instant::now() >= again) {
            let told = self.tell();
            self.noted(told);
        }
        self.set_timer()?;
        self.failure.take().map_or(Ok(None), Err)
    }

    /// Waits until it is primary, and answers the epoch. `None` when the time is over, or as soon as it is drained: then it never becomes
    /// primary any more. A step-down that a manager asks for meanwhile is done at once, because nothing acts for a standby.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn wait_primary(&mut self, timeout: Option<Duration>) -> Result<Option<u64>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut ready = Vec::new();
        loop {
            while let Some(change) = self.update()? {
                match change {
                    Change::StepDown => self.step_down()?,
                    Change::Drain => self.drain()?,
                    _ => {}
                }
            }
            if let Some(epoch) = self.term() {
                return Ok(Some(epoch));
            }
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if over || matches!(self.place, Place::Drained) {
                return Ok(None);
            }
            self.epoll.wait(deadline, &mut ready)?;
        }
    }

    /// Gives the claim back and stands by, behind the other members. Call it when nothing acts for this term any more: the servers refuse,
    /// and the publishers have the role of a standby.
    ///
    /// # Errors
    ///
    /// When the record cannot be written, or the other members cannot be followed. The claim is given back and managers are answered
    /// nevertheless, and the next calls of [`update`](Self::update) go on.
    pub fn step_down(&mut self) -> Result<()> {
        let was = matches!(self.place, Place::Holds(_));
        let told = self.become_standby();
        let left = if was { self.make_way() } else { Ok(()) };
        self.settle(told.and(left))
    }

    /// As [`step_down`](Self::step_down), and it does not become primary again.
    ///
    /// # Errors
    ///
    /// As [`step_down`](Self::step_down).
    pub fn drain(&mut self) -> Result<()> {
        let ended = self.become_standby();
        let left = self.put(Place::Drained);
        let told = self.tell();
        self.settle(ended.and(left).and(told))
    }

    /// The end of a step-down: managers are answered, also if something has failed. That is told last.
    fn settle(&mut self, done: Result<()>) -> Result<()> {
        let timed = self.set_timer();
        let answered = self.answer_asked();
        done.and(timed).and(answered)
    }

    /// Gives the claim back. If it is unknown whether another member takes it, this one waits as long as for one that does.
    fn make_way(&mut self) -> Result<()> {
        let until = Instant::now() + YIELD;
        let place = self.has_others().and_then(|others| match others {
            true => self.bus.claims().watch(&self.name).map(|watch| Place::Yields(watch, until)),
            false => Ok(Place::Later(Instant::now())),
        });
        let left = place.and_then(|place| self.put(place));
        if left.is_err() {
            self.put(Place::Later(until))?;
        }
        left
    }

    fn become_standby(&mut self) -> Result<()> {
        self.group.role = Role::Standby;
        self.tell()
    }

    /// Takes its place. What it held before is given back.
    fn put(&mut self, place: Place) -> Result<()> {
        self.forget_place();
        self.place = place;
        self.watch_place()
    }

    fn place_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.place {
            Place::Asks(claiming) => Some(claiming.as_fd()),
            Place::Holds(claim) => Some(claim.as_fd()),
            Place::Yields(watch, _) => Some(watch.as_fd()),
            Place::Later(_) | Place::Drained => None,
        }
    }

    fn watch_place(&self) -> Result<()> {
        self.place_fd().map_or(Ok(()), |fd| self.epoll.watch(fd, ANYTHING))
    }

    fn forget_place(&self) {
        if let Some(fd) = self.place_fd() {
            self.epoll.forget(fd);
        }
    }

    fn contend(&mut self) -> Result<Option<Change>> {
        match &mut self.place {
            Place::Asks(claiming) => {
                let claim = match claiming.take() {
                    Ok(Some(claim)) => claim,
                    Ok(None) => return Ok(None),
                    Err(error) => {
                        // It answers the same each time.
                        self.put(Place::Later(Instant::now() + PAUSE))?;
                        return Err(error);
                    }
                };
                let epoch = claim.epoch();
                // The descriptor is that of the claim that was asked for, so it is watched already.
                self.place = Place::Holds(claim);
                self.group = GroupRecord::new(Role::Primary, epoch);
                // If it fails, that is told later. The caller must hear of the change now.
                let told = self.tell();
                self.noted(told);
                Ok(Some(Change::Primary(epoch)))
            }
            Place::Holds(claim) if claim.is_lost() => {
                self.put(Place::Later(Instant::now()))?;
                // As above.
                let told = self.become_standby();
                self.noted(told);
                Ok(Some(Change::Lost))
            }
            Place::Yields(watch, until) => {
                // Only the newest state is kept, so there is no other one behind it.
                let state = watch.try_next();
                let taken = matches!(&state, Ok(Some(state)) if state.epoch > self.group.epoch);
                if taken || state.is_err() || Instant::now() >= *until {
                    self.put(Place::Later(Instant::now()))?;
                }
                state.map(|_| None)
            }
            Place::Later(at) if Instant::now() >= *at => {
                let asked = self.bus.claiming(&self.name, true);
                let asks = asked.and_then(|claiming| self.put(Place::Asks(claiming)));
                if asks.is_err() {
                    self.put(Place::Later(Instant::now() + PAUSE))?;
                }
                asks.map(|()| None)
            }
            Place::Holds(_) | Place::Later(_) | Place::Drained => Ok(None),
        }
    }

    /// `as_fd` is readable when something is to be tried again.
    fn set_timer(&self) -> Result<()> {
        let place = if let Place::Yields(_, at) | Place::Later(at) = &self.place { Some(*at) } else { None };
        self.timer.set(place.into_iter().chain(self.untold).chain(self.behind).min())
    }

    /// Keeps an error. The caller is told of it when it has heard of everything else.
    fn noted<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.failure = Some(error)).ok()
    }

    /// Whether another member could take the claim.
    fn has_others(&self) -> Result<bool> {
        let own = self.control.record().map(|record| record.id.clone());
        let name = control::name(&self.name);
        let contends =
            |metadata: &Map<String, Value>| metadata.get("state") != Some(&Value::from("draining"));
        let others = self.bus.list()?;
        Ok(others
            .iter()
            .any(|one| one.service == name && Some(&one.id) != own.as_ref() && contends(&one.metadata)))
    }

    fn status(&self) -> Status<'_> {
        let state = if matches!(self.place, Place::Drained) { "draining" } else { "ready" };
        Status {
            group: &self.name,
            pid: std::process::id(),
            role: self.group.role,
            epoch: self.group.epoch,
            state,
            beat_age: self.last_beat.map_or(0.0, |last| last.elapsed().as_secs_f64() * 1000.0),
        }
    }

    /// Announces the role.
    fn tell(&mut self) -> Result<()> {
        let mut metadata = self.metadata.clone();
        metadata.extend(self.status().metadata(self.last_beat.is_some()));
        let told = self.control.update(metadata);
        self.untold = told.is_err().then(|| Instant::now() + PAUSE);
        told
    }

    /// Answers managers. What they ask of the caller is told. `None`: nothing so far, and what comes next makes `as_fd` readable.
    fn answer(&mut self) -> Result<Option<Change>> {
        let mut left = MOST_ASKED;
        self.behind = None;
        loop {
            while let Some(asked) = control::next(&mut self.control, &mut left)? {
                match asked.what {
                    control::What::Status => {
                        let replied = self.reply(&asked);
                        self.noted(replied);
                    }
                    control::What::StepDown | control::What::Drain => {
                        let drains = asked.what == control::What::Drain;
                        self.asked.push(asked);
                        return Ok(Some(if drains { Change::Drain } else { Change::StepDown }));
                    }
                }
            }
            if left == 0 {
                self.behind = Some(Instant::now());
                return Ok(None);
            }
            // Clients that come and go are no news.
            self.control.notices();
            // Without this, a request that came meanwhile would not ring.
            if self.control.arm() {
                return Ok(None);
            }
            left = left.saturating_sub(1);
        }
    }

    fn answer_asked(&mut self) -> Result<()> {
        // Each of them, also if one cannot be answered.
        let asked = std::mem::take(&mut self.asked);
        asked.iter().map(|asked| self.reply(asked)).fold(Ok(()), Result::and)
    }

    fn reply(&mut self, asked: &Asked) -> Result<()> {
        let bytes = self.status().to_bytes();
        match asked.reply(&mut self.control, &bytes) {
            // The manager has gone meanwhile.
            Err(Error::PeerGone { .. } | Error::NotFound { .. }) => Ok(()),
            replied => replied,
        }
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Member")
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
