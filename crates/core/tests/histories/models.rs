//! What a lock, a semaphore and a flag are for one process alone. `None` as a result: its process died before it knew.

use super::checker::Model;

/// A lock, or a shard of a sharded mutex. It is free at first.
pub struct LockModel;

#[derive(Debug, Clone, Copy)]
pub enum LockCall {
    /// `abandoned`: what it was told.
    Take {
        shared: bool,
        abandoned: Option<bool>,
    },
    /// It was not available. `excused`: somebody else was busy with the lock meanwhile.
    Refused {
        excused: bool,
    },
    /// It waited, and had no more patience.
    TooLate,
    GiveBack {
        shared: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LockState {
    alone: Option<u32>,
    /// The processes that share it, sorted; one entry for each hold.
    shared: Vec<u32>,
    abandoned: bool,
}

impl Model for LockModel {
    type State = LockState;
    type Call = LockCall;

    fn begin(&self) -> LockState {
        LockState::default()
    }

    fn step(&self, state: &LockState, process: u32, call: &LockCall) -> Option<LockState> {
        let mut next = state.clone();
        let fits = match *call {
            LockCall::Take { shared: true, abandoned } => {
                next.shared.push(process);
                next.shared.sort_unstable();
                // Told, and still to be told to the next one that has it alone.
                state.alone.is_none() && abandoned.is_none_or(|told| told == state.abandoned)
            }
            LockCall::Take { shared: false, abandoned } => {
                (next.alone, next.abandoned) = (Some(process), false);
                let free = state.alone.is_none() && state.shared.is_empty();
                free && abandoned.is_none_or(|told| told == state.abandoned)
            }
            LockCall::Refused { excused } => excused || state.alone.is_some() || !state.shared.is_empty(),
            LockCall::TooLate => true,
            LockCall::GiveBack { shared: true } => {
                let held = state.shared.iter().position(|one| *one == process);
                held.map(|at| next.shared.remove(at)).is_some()
            }
            LockCall::GiveBack { shared: false } => next.alone.take() == Some(process),
        };
        fits.then_some(next)
    }

    fn death(&self, state: &LockState, process: u32) -> LockState {
        let mut next = state.clone();
        next.shared.retain(|one| *one != process);
        if state.alone == Some(process) {
            (next.alone, next.abandoned) = (None, true);
        }
        next
    }
}

pub struct SemaphoreModel {
    pub permits: u32,
}

#[derive(Debug, Clone, Copy)]
pub enum SemaphoreCall {
    Take { permits: u32 },
    Refused { permits: u32, excused: bool },
    TooLate,
    GiveBack { permits: u32 },
}

impl Model for SemaphoreModel {
    /// The permits of each process, sorted, where it has any.
    type State = Vec<(u32, u32)>;
    type Call = SemaphoreCall;

    fn begin(&self) -> Self::State {
        Vec::new()
    }

    fn step(&self, state: &Self::State, process: u32, call: &SemaphoreCall) -> Option<Self::State> {
        let free = self.permits - state.iter().map(|(_, permits)| permits).sum::<u32>();
        let own = state.iter().find(|(one, _)| *one == process).map_or(0, |(_, permits)| *permits);
        let own = match *call {
            SemaphoreCall::Take { permits } => (permits <= free).then_some(own + permits)?,
            SemaphoreCall::Refused { permits, excused } => (excused || permits > free).then_some(own)?,
            SemaphoreCall::TooLate => own,
            SemaphoreCall::GiveBack { permits } => own.checked_sub(permits)?,
        };
        let mut next = self.death(state, process);
        if own > 0 {
            next.push((process, own));
            next.sort_unstable();
        }
        Some(next)
    }

    fn death(&self, state: &Self::State, process: u32) -> Self::State {
        state.iter().copied().filter(|(one, _)| *one != process).collect()
    }
}

/// A flag, which is false at first and does not care who dies.
pub struct FlagModel;

#[derive(Debug, Clone, Copy)]
pub enum FlagCall {
    Get {
        value: Option<bool>,
    },
    Swap {
        to: bool,
        before: Option<bool>,
    },
    CompareAndSwap {
        from: bool,
        to: bool,
        done: Option<bool>,
    },
    /// A wait for this value has ended.
    Reached {
        value: bool,
    },
}

impl Model for FlagModel {
    type State = bool;
    type Call = FlagCall;

    fn begin(&self) -> bool {
        false
    }

    fn step(&self, state: &bool, _process: u32, call: &FlagCall) -> Option<bool> {
        let is = |told: Option<bool>, value: bool| told.is_none_or(|told| told == value);
        match *call {
            FlagCall::Get { value } => is(value, *state).then_some(*state),
            FlagCall::Swap { to, before } => is(before, *state).then_some(to),
            FlagCall::CompareAndSwap { from, to, done } => {
                is(done, *state == from).then_some(if *state == from { to } else { *state })
            }
            FlagCall::Reached { value } => (*state == value).then_some(*state),
        }
    }

    fn death(&self, state: &bool, _process: u32) -> bool {
        *state
    }
}
