//! Opening a name: this process becomes a member, of the table that the living members have, or of a new one.
//!
//! Invariant: one table for each name, for as long as any member lives. The process that opens holds the name's byte of the file
//! `.sync`, so one process at a time decides. It joins a living member's table, and makes one only when nobody lives: no
//! record says so, the file is old enough that the members of a lost directory have announced themselves again, and the
//! name's second byte of that file is free. Members share that byte; who makes a table has it alone until its record has
//! appeared. A member that comes back shares it before it looks for another table. So it finds one, or keeps others from making
//! one. Members that live and cannot be reached are an error.

use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use ringbell_ring::table::{Kind, MAX_CELLS, MAX_PERMITS, Members, Seat, Shape, member_lock_byte};

use super::keeper::Keeper;
use super::member::{Member, Spec};
use super::want::{GiveTable, WantTable};
use crate::bus::arbiter::{Arbiter, ArbiterFile, Hold, Turn};
use crate::bus::{Announcement, Bus, Directory, Filter, Serve, scan_now};
use crate::error::{Error, Result};
use crate::handshake::wire::id_bytes;
use crate::handshake::{Acquirer, Acquisition, Ask, Done, serve};
use crate::record::{MAX_NAME, Record, Rung, check_name};
use crate::segment::{OwnTable, create_table, fnv1a, words};
use crate::sys::{duplicate, lock, proc, random};

/// The file that arbitrates for all names.
const FILE: &str = ".sync";
/// How many processes can be members of one name.
const MEMBERS: usize = 256;
/// How long opening may take, with all its repetitions.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// No table is made before the file is so old. Until then the members of a lost directory announce themselves again: a
/// bus that polls does so after 250 ms, and one whose record alone was removed after the same time.
const AGE: Duration = Duration::from_millis(500);
/// The first pause before the next look at a byte that is shared by a member without a record. The pauses double, up to `AGE`.
/// Mostly that member is being killed: its record was free before its byte is.
const SOON: Duration = Duration::from_millis(1);

/// The two bytes of a name: the first one is for who opens it, the second one is shared by its members. Two names can
/// have the same bytes. Then they are opened one after the other, and a member of one delays a new table of the other.
fn bytes(service: &str) -> (u64, u64) {
    let hash = fnv1a(service.as_bytes());
    (1 | hash >> 4 << 1, 1 << 61 | hash >> 4 << 1)
}

impl Spec {
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |option, value: String, rule: String| Err(Error::InvalidOption { option, value, rule });
        if self.kind == Kind::Semaphore && !(1..=MAX_PERMITS).contains(&self.permits) {
            return wrong("permits", self.permits.to_string(), format!("it must be from 1 to {MAX_PERMITS}"));
        }
        if self.kind == Kind::Sharded && !(self.cells.is_power_of_two() && self.cells <= MAX_CELLS) {
            let rule = format!("it must be a power of two from 1 to {MAX_CELLS}");
            return wrong("shards", self.cells.to_string(), rule);
        }
        Ok(())
    }

    /// Checks that this is what a living member has.
    fn fits(&self, what: &str, record: &Record) -> Result<()> {
        let Some(sync) = &record.sync else { return Ok(()) };
        let rule = |there: u32| format!("the living members of {what} have {there}; all must open it alike");
        let differs = |option, value: u32, there: u32| {
            Err(Error::InvalidOption { option, value: value.to_string(), rule: rule(there) })
        };
        if self.permits != sync.permits {
            return differs("permits", self.permits, sync.permits);
        }
        if self.cells != usize::from(sync.cells) {
            return differs("shards", self.cells as u32, sync.cells.into());
        }
        Ok(())
    }
}

/// Becomes a member.
///
/// # Errors
/// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION` where the living members have another number of permits or
/// shards, `ERR_RINGBELL_ACQUIRE` where none of them can be reached, `ERR_RINGBELL_TIMEOUT`, and those of
/// [`Bus::announce`].
pub(super) fn open(bus: &Bus, name: &str, spec: Spec) -> Result<Arc<Member>> {
    spec.check()?;
    check_name("name", name)?;
    let service = format!("{}.{name}", spec.kind_name());
    if service.len() > MAX_NAME {
        let rule = "it is too long: with the kind and a dot before it, it may have 64 characters";
        return Err(Error::InvalidName { what: "name", name: name.to_owned(), rule });
    }
    let opening = Opening {
        bus,
        what: format!("{} '{name}'", spec.kind_name()),
        service,
        spec,
        deadline: Instant::now() + PATIENCE,
    };
    opening.run(name)
}

struct Opening<'a> {
    bus: &'a Bus,
    what: String,
    service: String,
    spec: Spec,
    deadline: Instant,
}

impl Opening<'_> {
    fn run(&self, name: &str) -> Result<Arc<Member>> {
        let arbiter = self.bus.arbiter(FILE.to_owned())?;
        let (turn, shared) = bytes(&self.service);
        loop {
            let hold = self.turn(&arbiter, turn)?;
            let (table, presence) = self.table(&hold, shared)?;
            // Both bytes are of the file that counts. A process that comes later looks at the second one.
            if !(hold.file().is_current() && presence.is_current()) {
                continue;
            }
            let member = self.join(name, table, presence)?;
            match self.announce(&member, shared) {
                Ok(()) => return Ok(member),
                // The directory was lost meanwhile. There may be another table in the new one.
                Err(_) if !hold.file().is_current() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn late(&self) -> Error {
        let milliseconds = PATIENCE.as_millis() as u64;
        Error::Timeout { what: format!("{}: the turn to open it", self.what), milliseconds }
    }

    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.late()) } else { Ok(left) }
    }

    /// Waits for the turn to decide.
    fn turn(&self, arbiter: &Arbiter, byte: u64) -> Result<Hold> {
        let (say, hear) = channel();
        let turn = Turn::wait(arbiter, byte, Box::new(move |hold| drop(say.send(hold))));
        match hear.recv_timeout(self.left()?) {
            Ok(hold) => hold,
            Err(_) => {
                arbiter.handle().remove(turn.token());
                Err(self.late())
            }
        }
    }

    /// The table of the living members and a share of the second byte, or a new one and the byte alone.
    fn table(&self, hold: &Hold, shared: u64) -> Result<(OwnTable, ArbiterFile)> {
        let mut unreachable = None;
        let mut pause = SOON;
        loop {
            let members = self.members()?;
            self.is_one(&members)?;
            for record in &members {
                self.permitted(record)?;
                self.spec.fits(&self.what, record)?;
                match self.acquire(record) {
                    Ok(table) => {
                        let presence = ArbiterFile::open(self.bus.dir(), FILE)?;
                        // Only a hostile process has it alone now.
                        if presence.share(shared)? {
                            return Ok((table, presence));
                        }
                    }
                    Err(Error::PeerGone { .. }) => {}
                    Err(error) => unreachable = Some(error),
                }
            }
            let young = hold.file().read()?.until_aged(AGE);
            if members.is_empty() && young.is_none() {
                let presence = ArbiterFile::open(self.bus.dir(), FILE)?;
                if presence.try_take(shared)? {
                    return Ok((self.make()?, presence));
                }
            }
            // Somebody lives, or may live, whom no record names yet; or cannot be reached.
            if !members.is_empty()
                && let Some(error) = unreachable.take()
            {
                return Err(error);
            }
            let left = young.unwrap_or(pause).min(self.left()?);
            pause = (pause * 2).min(AGE);
            self.bus.watch(Filter::Exact(self.service.clone()))?.next(Some(left))?;
        }
    }

    /// Checks that all members have one table.
    fn is_one(&self, members: &[Arc<Record>]) -> Result<()> {
        let mut nonces = members.iter().filter_map(|record| record.sync.as_ref()).map(|sync| &sync.nonce);
        let first = nonces.next();
        if nonces.all(|nonce| Some(nonce) == first) {
            return Ok(());
        }
        let pids: Vec<String> = members.iter().map(|record| record.pid.to_string()).collect();
        let reason = format!(
            "processes have {} open that do not share it, because the bus directory was lost; end some of them ({})",
            self.what,
            pids.join(", ")
        );
        Err(Error::Refused { reason })
    }

    /// A process that has a table can write all of it, so it is for one user. Root may join, as it may everything.
    fn permitted(&self, record: &Record) -> Result<()> {
        if !record.is_of_other_user() || nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let what = format!(
            "{} belongs to uid {}, and only processes of one user can share it",
            self.what, record.uid
        );
        Err(Error::NoPermission { what })
    }

    fn members(&self) -> Result<Vec<Arc<Record>>> {
        let mut records = self.bus.look_up(&Filter::Exact(self.service.clone()))?;
        records.retain(|record| record.kind == self.spec.kind_name() && record.sync.is_some());
        Ok(records)
    }

    fn acquire(&self, record: &Arc<Record>) -> Result<OwnTable> {
        let handle = self.bus.handle()?;
        let ask = Ask { record: Arc::clone(record), forced: None, patience: self.left()? };
        let ladder = Acquirer::new(self.bus).ladder(WantTable(self.spec), ask);
        let (say, hear) = channel();
        let done: Done<OwnTable> = Box::new(move |result, _| drop(say.send(result)));
        handle.add(Acquisition::new(ladder, handle.clone(), done), Some(Instant::now()));
        // The ladder keeps the time, and a thread that ends drops the sender.
        let acquired = hear.recv().map_err(|_| Error::Closed { what: "bus" })??;
        Ok(acquired.port)
    }

    fn make(&self) -> Result<OwnTable> {
        let nonce = u128::from_be_bytes(random::bytes128()?);
        let Spec { kind, cells, permits } = self.spec;
        create_table(Shape { kind, cells, members: MEMBERS, permits, nonce: words(nonce) })
    }

    /// Takes a place in the table.
    fn join(&self, name: &str, table: OwnTable, presence: ArbiterFile) -> Result<Arc<Member>> {
        let memory = table.mapped.memory();
        let Shape { cells, members, .. } = *memory.shape();
        let mut place = None;
        for index in 0..members {
            if lock::take(&table.own, member_lock_byte(cells, index))? {
                place = Some(index);
                break;
            }
        }
        let place = place.ok_or_else(|| Error::Refused {
            reason: format!("all {members} places for members of {} are taken", self.what),
        })?;
        let myself = proc::myself()?;
        let mut wakes = Members::none();
        let seat = Seat::join(memory, place, myself.pid, myself.pid_namespace, &mut wakes)?;
        let handle = self.bus.handle()?;
        let member = Member::new(name.to_owned(), self.spec, seat, table, presence, handle);
        member.wake(&wakes);
        let member = Arc::new(member);
        Keeper::begin(&member);
        Ok(member)
    }

    fn announce(&self, member: &Arc<Member>, shared: u64) -> Result<()> {
        let record = member.table.describe()?;
        let nonce = id_bytes(&record.nonce).unwrap_or_default();
        let give = serve(GiveTable { fd: duplicate(&member.table.fd)?, nonce });
        let again = Again {
            member: Arc::downgrade(member),
            directory: Arc::clone(self.bus.dir()),
            service: self.service.clone(),
            nonce: record.nonce.clone(),
            shared,
        };
        let announced = self.bus.announce(Announcement {
            kind: self.spec.kind_name().into(),
            offers: vec![Rung::Direct, Rung::Handshake],
            sync: Some(record),
            server: Some(again.serve(give)),
            ..Announcement::new(&self.service)
        })?;
        *member.announced.lock().unwrap_or_else(PoisonError::into_inner) = Some(announced);
        // From here on the record tells those that come back, and other members share the byte.
        if let Some(presence) = &*member.presence.lock().unwrap_or_else(PoisonError::into_inner) {
            presence.share(shared)?;
        }
        Ok(())
    }
}

/// What a member does each time that its record is about to appear: at first, and when the directory was lost.
struct Again {
    member: Weak<Member>,
    directory: Arc<Directory>,
    service: String,
    nonce: String,
    shared: u64,
}

impl Again {
    fn serve(self, mut give: Serve) -> Serve {
        Box::new(move |listener| {
            if let Some(member) = self.member.upgrade() {
                let appeared = self.appear(&member);
                // Not here: if this is the last use of the member, its end withdraws the record that is locked just now.
                member.drop_later();
                appeared?;
            }
            give(listener)
        })
    }

    /// # Errors
    /// The registry tries again then. A member that was cut off withdraws its record instead.
    fn appear(&self, member: &Arc<Member>) -> Result<()> {
        let mut presence = member.presence.lock().unwrap_or_else(PoisonError::into_inner);
        match &*presence {
            Some(file) if file.is_current() => return Ok(()),
            Some(_) => {}
            None => return Err(member.reason()),
        }
        let file = ArbiterFile::open(&self.directory, FILE)?;
        if !file.share(self.shared)? || !file.is_current() {
            let reason = format!("another process opens {} just now", member.what());
            return Err(Error::Refused { reason });
        }
        // A member that stood still all the time comes too late.
        let others = scan_now(&self.directory, &Filter::Exact(self.service.clone()))?;
        let foreign =
            others.iter().any(|record| record.sync.as_ref().is_some_and(|sync| sync.nonce != self.nonce));
        if foreign {
            *presence = None;
            let reason =
                format!("{} was made again while this process stood still; open it again", member.what());
            return Err(member.end(Error::Refused { reason }));
        }
        *presence = Some(file);
        Ok(())
    }
}
