//! Whether a history is linearizable: whether each call can have happened at one moment between its begin and its end, so that
//! all of them in that order are what one process alone could have seen.
//!
//! It follows the history in time and keeps every possible state (J. Wing and C. Gong 1993, in the form of G. Lowe 2017):
//! what the object may be, and which of the open calls have happened. A call happens at the latest when it ends. One that was
//! killed may have happened before its process's death, or never.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// An object, as one process alone would see it.
pub trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Call: Debug;

    fn begin(&self) -> Self::State;

    /// The state after this call of this process. `None`: it cannot have this result in this state.
    fn step(&self, state: &Self::State, process: u32, call: &Self::Call) -> Option<Self::State>;

    /// The state after the death of a process.
    fn death(&self, state: &Self::State, process: u32) -> Self::State;
}

/// What was done to one object.
#[derive(Debug)]
pub enum Deed<C> {
    Call(C),
    Death,
}

#[derive(Debug)]
pub struct Event<C> {
    pub process: u32,
    pub begun: u64,
    /// Of a call that was killed: when its process was dead.
    pub ended: u64,
    pub killed: bool,
    pub deed: Deed<C>,
}

/// The state of an object, and the open events that have happened, one bit each.
type Possibility<S> = (S, u64);

/// Checks a history in any order. Says how many states were possible at once at most.
///
/// # Errors
/// Text: the event that could not have ended as it did, and what came before it.
pub fn check<M: Model>(model: &M, history: &[Event<M::Call>]) -> Result<usize, String> {
    let mut moments: Vec<(u64, bool, bool, usize)> = Vec::with_capacity(history.len() * 2);
    for (index, event) in history.iter().enumerate() {
        assert!(event.begun <= event.ended, "{event:?}");
        // At one moment: what begins comes first, and a death ends last. So the calls of the dead end before it.
        moments.push((event.begun, false, false, index));
        moments.push((event.ended, true, matches!(event.deed, Deed::Death), index));
    }
    moments.sort_unstable();
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut possible: HashSet<Possibility<M::State>> = HashSet::from([(model.begin(), 0)]);
    let mut most = 1;
    for (_, ends, _, index) in moments {
        if !ends {
            let free = open.iter().position(Option::is_none).unwrap_or(open.len());
            if free == open.len() {
                open.push(None);
            }
            assert!(free < 64, "too many calls at once");
            open[free] = Some(index);
            continue;
        }
        let slot = open.iter().position(|one| *one == Some(index)).expect("it has begun");
        let after = end(model, history, &open, slot, &possible);
        if after.is_empty() {
            return Err(describe(history, index, &possible));
        }
        (open[slot], possible) = (None, after);
        most = most.max(possible.len());
    }
    Ok(most)
}

/// The possibilities after the end of the event in this slot.
fn end<M: Model>(
    model: &M,
    history: &[Event<M::Call>],
    open: &[Option<usize>],
    slot: usize,
    possible: &HashSet<Possibility<M::State>>,
) -> HashSet<Possibility<M::State>> {
    let (mut after, mut seen) = (HashSet::new(), possible.clone());
    let mut rest: Vec<_> = possible.iter().cloned().collect();
    let killed = open[slot].is_some_and(|index| history[index].killed);
    while let Some((state, done)) = rest.pop() {
        if done >> slot & 1 == 1 {
            after.insert((state, done & !(1 << slot)));
            continue;
        }
        if killed {
            after.insert((state.clone(), done));
        }
        for (other, index) in open.iter().enumerate() {
            let Some(event) = index.map(|index| &history[index]) else { continue };
            if done >> other & 1 == 1 || is_dead(history, open, done, event.process) {
                continue;
            }
            let next = match &event.deed {
                Deed::Call(call) => model.step(&state, event.process, call),
                Deed::Death => Some(model.death(&state, event.process)),
            };
            if let Some(next) = next.map(|state| (state, done | 1 << other))
                && seen.insert(next.clone())
            {
                rest.push(next);
            }
        }
    }
    after
}

/// Whether the death of this process has happened.
fn is_dead<C>(history: &[Event<C>], open: &[Option<usize>], done: u64, process: u32) -> bool {
    open.iter().enumerate().any(|(slot, index)| {
        let event = index.map(|index| &history[index]);
        done >> slot & 1 == 1
            && event.is_some_and(|event| event.process == process && matches!(event.deed, Deed::Death))
    })
}

fn describe<C: Debug, S: Debug>(
    history: &[Event<C>],
    index: usize,
    possible: &HashSet<Possibility<S>>,
) -> String {
    let end = history[index].ended;
    let mut before: Vec<&Event<C>> = history.iter().filter(|event| event.begun <= end).collect();
    before.sort_unstable_by_key(|event| event.ended.min(end));
    let lines = before[before.len().saturating_sub(24)..].iter().map(|event| {
        let (begun, ended) = (end - event.begun, end as i64 - event.ended as i64);
        let killed = if event.killed { ", killed" } else { "" };
        format!("  process {}, from -{begun} to {} ns{killed}: {:?}", event.process, -ended, event.deed)
    });
    let lines: Vec<String> = lines.collect();
    let states: Vec<String> = possible.iter().take(6).map(|(state, _)| format!("  {state:?}")).collect();
    format!(
        "no order explains this:\n{:?}\nbefore it:\n{}\nit could be:\n{}",
        history[index],
        lines.join("\n"),
        states.join("\n")
    )
}
