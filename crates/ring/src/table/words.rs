//! The two packed words of a table: the gate of a cell, and the word of a request. Plain arithmetic, no memory.
//!
//! A gate says in one word who holds the cell alone, who combines, and what is known of the queue. So each step of the
//! protocol is one compare-and-swap of the gate, and a process that dies between two steps leaves a gate that says
//! exactly how far it came. Any value can come from a peer: every reader checks the numbers in it.

/// Most members of a table.
pub const MAX_MEMBERS: usize = 512;
/// Most cells of a table.
pub const MAX_CELLS: usize = 1024;
/// How many requests of one member may wait at a time.
pub const REQUESTS: usize = 8;
/// Most permits of a semaphore.
pub const MAX_PERMITS: u32 = (1 << 24) - 1;

/// The number, in place of a request's, of a holder whose request is over.
const SETTLED: u64 = 15;

/// Who holds a cell alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    /// The member holds it, and no request says so.
    Member(usize),
    /// It is being granted, or was granted, to this request of the member.
    Request(usize, usize),
    /// No number that this protocol writes.
    Nonsense,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate(pub(super) u64);

const OWNER: u64 = (1 << 24) - 1;
const COMBINER_AT: u32 = 24;
const COMBINER: u64 = 0xffff << COMBINER_AT;

impl Gate {
    pub(super) const FREE: Gate = Gate(0);
    /// Something has changed since the combiner looked. It looks again before it gives the gate back.
    pub(super) const DIRTY: u64 = 1 << 40;
    /// Requests wait.
    pub(super) const WAITERS: u64 = 1 << 41;
    /// There may be holders in shared mode.
    pub(super) const SHARED: u64 = 1 << 42;
    /// A waiter was woken, and will try to take the cell. No other one is woken before it has.
    pub(super) const NUDGED: u64 = 1 << 43;
    /// A waiter lost too often: the cell is given to the first one, and nobody passes it.
    pub(super) const HANDOFF: u64 = 1 << 44;
    /// The last process that held the cell alone died.
    pub(super) const ABANDONED: u64 = 1 << 45;

    pub(super) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(super) fn with(self, flags: u64) -> Gate {
        Gate(self.0 | flags)
    }

    pub(super) fn without(self, flags: u64) -> Gate {
        Gate(self.0 & !flags)
    }

    /// Sets the flag, or clears it.
    pub(super) fn set(self, flag: u64, to: bool) -> Gate {
        if to { self.with(flag) } else { self.without(flag) }
    }

    pub(super) fn owner(self) -> Owner {
        let (number, request) = ((self.0 & OWNER) >> 4, self.0 & 15);
        match (number as usize, request) {
            (0, 0) => Owner::Nobody,
            (1..=MAX_MEMBERS, SETTLED) => Owner::Member(number as usize - 1),
            (1..=MAX_MEMBERS, request) if (request as usize) < REQUESTS => {
                Owner::Request(number as usize - 1, request as usize)
            }
            _ => Owner::Nonsense,
        }
    }

    /// The member that holds the cell alone, or is being given it.
    pub(super) fn owning_member(self) -> Option<usize> {
        match self.owner() {
            Owner::Member(member) | Owner::Request(member, _) => Some(member),
            Owner::Nobody | Owner::Nonsense => None,
        }
    }

    pub(super) fn owned_by(self, owner: Owner) -> Gate {
        let code = match owner {
            Owner::Nobody | Owner::Nonsense => 0,
            Owner::Member(member) => (member as u64 + 1) << 4 | SETTLED,
            Owner::Request(member, request) => (member as u64 + 1) << 4 | request as u64,
        };
        Gate(self.0 & !OWNER | code)
    }

    /// The member that combines. `Err`: no number that this protocol writes.
    pub(super) fn combiner(self) -> Option<Result<usize, ()>> {
        match ((self.0 & COMBINER) >> COMBINER_AT) as usize {
            0 => None,
            number @ 1..=MAX_MEMBERS => Some(Ok(number - 1)),
            _ => Some(Err(())),
        }
    }

    pub(super) fn combined_by(self, member: Option<usize>) -> Gate {
        let code = member.map_or(0, |member| (member as u64 + 1) << COMBINER_AT);
        Gate(self.0 & !COMBINER | code)
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The cell, alone.
    Exclusive,
    /// The cell, together with others that want it shared.
    Shared,
    /// So many permits.
    Permits(u32),
    /// To hear when the cell's value is this one.
    Value(u32),
}

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Waiting,
    Granted,
}

/// The word of a request: state (2 bits), kind (2), cell (12), number (24), generation (24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request(pub(super) u64);

impl Request {
    /// The next request in this place.
    pub(super) fn next(self, cell: usize, want: Want) -> Request {
        let (kind, number) = match want {
            Want::Exclusive => (0, 0),
            Want::Shared => (1, 1),
            Want::Permits(permits) => (2, permits),
            Want::Value(value) => (3, value),
        };
        let generation = (self.0 >> 40).wrapping_add(1) << 40;
        let number = u64::from(number & MAX_PERMITS) << 16;
        Request(generation | number | (cell as u64 & 0xfff) << 4 | kind << 2 | 1)
    }

    pub(super) fn state(self) -> State {
        match self.0 & 3 {
            1 => State::Waiting,
            2 => State::Granted,
            _ => State::Free,
        }
    }

    pub(super) fn granted(self) -> Request {
        Request(self.0 & !3 | 2)
    }

    pub(super) fn free(self) -> Request {
        Request(self.0 & !3)
    }

    pub(super) fn cell(self) -> usize {
        (self.0 >> 4 & 0xfff) as usize
    }

    pub(super) fn want(self) -> Want {
        let number = (self.0 >> 16) as u32 & MAX_PERMITS;
        match self.0 >> 2 & 3 {
            0 => Want::Exclusive,
            1 => Want::Shared,
            2 => Want::Permits(number),
            _ => Want::Value(number),
        }
    }
}
