//! Every run of the sleep protocol with barriers (I9), of one publisher and one reader, on a machine whose processors delay
//! their stores.
//!
//! loom cannot model membarrier(2), which makes another thread execute a fence. So this is the protocol of `wake.rs` by hand,
//! step by step: a publisher, a reader, and between each of them and the memory a queue of stores (x86-64's memory model;
//! on others the release and acquire of `unfenced` keep the same order). The search visits every state. It also runs with
//! faults that were made on purpose, and each must lose a wake-up.
#![cfg(not(miri))]

use std::collections::{HashSet, VecDeque};

const MESSAGES: u8 = 4;
/// Commits without a sleeper after which the publisher leaves out the fence.
const QUIET: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The reader does not call for a barrier.
    NoBarrier,
    /// The reader looks at `unfenced` before it sets its flag.
    EarlyLook,
    /// The publisher makes no fence between the store of `unfenced` and its look at the sleepers.
    NoFenceAtSwitch,
    /// The publisher loads and stores the flags, instead of swapping them.
    NoSwap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Head,
    Sleepers,
    Unfenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Publisher {
    Commit,
    Fence,
    Look,
    Swap,
    Ring,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Reader {
    Read,
    Announce,
    LookAtFences,
    Barrier,
    LookAgain,
    Sleep,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    memory: [u8; 3],
    rings: u8,
    publisher: Publisher,
    /// What the publisher has stored and the memory does not have yet.
    stores: VecDeque<(Word, u8)>,
    sent: u8,
    unfenced: bool,
    quiet: u8,
    reader: Reader,
    read: u8,
    heard: u8,
    /// What the reader saw of `unfenced`.
    barrier: bool,
}

impl State {
    fn start() -> State {
        State {
            memory: [0; 3],
            rings: 0,
            publisher: Publisher::Commit,
            stores: VecDeque::new(),
            sent: 0,
            unfenced: false,
            quiet: 0,
            reader: Reader::Read,
            read: 0,
            heard: 0,
            barrier: false,
        }
    }

    fn load(&self, word: Word) -> u8 {
        self.memory[word as usize]
    }

    /// One store reaches the memory.
    fn drain_one(&self) -> Option<State> {
        let mut next = self.clone();
        let (word, value) = next.stores.pop_front()?;
        next.memory[word as usize] = value;
        Some(next)
    }

    /// All of the publisher's stores reach the memory.
    fn drained(&self) -> State {
        let mut next = self.clone();
        while let Some(more) = next.drain_one() {
            next = more;
        }
        next
    }

    /// What the publisher may do next. It has only this one step.
    fn publish(&self, fault: Fault) -> Option<State> {
        let mut next = self.clone();
        match self.publisher {
            Publisher::Commit if self.sent == MESSAGES => return None,
            Publisher::Commit => {
                next.sent += 1;
                next.stores.push_back((Word::Head, next.sent));
                next.publisher = if self.unfenced { Publisher::Look } else { Publisher::Fence };
                if !self.unfenced && self.quiet >= QUIET {
                    next.unfenced = true;
                    next.stores.push_back((Word::Unfenced, 1));
                    if fault == Fault::NoFenceAtSwitch {
                        next.publisher = Publisher::Look;
                    }
                }
            }
            Publisher::Fence => {
                next = self.drained();
                next.publisher = Publisher::Look;
            }
            Publisher::Look if self.load(Word::Sleepers) == 0 => {
                next.quiet = (self.quiet + 1).min(QUIET);
                next.publisher = Publisher::Commit;
            }
            Publisher::Look => next.publisher = Publisher::Swap,
            Publisher::Swap => {
                if fault == Fault::NoSwap {
                    next.stores.push_back((Word::Sleepers, 0));
                } else {
                    // A locked instruction waits for all earlier stores.
                    next = self.drained();
                    next.memory[Word::Sleepers as usize] = 0;
                }
                next.quiet = 0;
                if self.unfenced {
                    next.unfenced = false;
                    next.stores.push_back((Word::Unfenced, 0));
                }
                next.publisher = Publisher::Ring;
            }
            Publisher::Ring => {
                next.rings += 1;
                next.publisher = Publisher::Commit;
            }
        }
        Some(next)
    }

    /// What the reader may do next.
    fn receive(&self, fault: Fault) -> Option<State> {
        let mut next = self.clone();
        let early = fault == Fault::EarlyLook;
        match self.reader {
            Reader::Read if self.read == MESSAGES => return None,
            Reader::Read if self.load(Word::Head) > self.read => next.read = self.load(Word::Head),
            Reader::Read => next.reader = if early { Reader::LookAtFences } else { Reader::Announce },
            // A locked instruction and a fence: the reader's stores reach the memory at once.
            Reader::Announce => {
                next.memory[Word::Sleepers as usize] = 1;
                next.reader = match early {
                    true if self.barrier => Reader::Barrier,
                    true => Reader::LookAgain,
                    false => Reader::LookAtFences,
                };
            }
            Reader::LookAtFences => {
                next.barrier = self.load(Word::Unfenced) == 1;
                next.reader = match next.barrier {
                    _ if early => Reader::Announce,
                    true => Reader::Barrier,
                    false => Reader::LookAgain,
                };
            }
            Reader::Barrier => {
                if fault != Fault::NoBarrier {
                    next = self.drained();
                }
                next.reader = Reader::LookAgain;
            }
            Reader::LookAgain => {
                next.reader = if self.load(Word::Head) > self.read { Reader::Read } else { Reader::Sleep };
            }
            Reader::Sleep if self.rings > self.heard => {
                next.heard = self.rings;
                next.reader = Reader::Read;
            }
            Reader::Sleep => return None,
        }
        Some(next)
    }
}

/// How many states there are, and whether there is one in which the reader sleeps for ever although there is a message.
fn explore(fault: Fault) -> (usize, bool) {
    let mut seen = HashSet::from([State::start()]);
    let mut open = vec![State::start()];
    let mut lost = false;
    while let Some(state) = open.pop() {
        let steps = [state.publish(fault), state.receive(fault), state.drain_one()];
        if steps.iter().all(Option::is_none) {
            lost |= state.read < MESSAGES;
        }
        for next in steps.into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    (seen.len(), lost)
}

#[test]
fn no_wake_up_is_lost() {
    let (states, lost) = explore(Fault::None);
    assert!(!lost);
    assert!(states > 500, "the search visited {states} states, so it did not go far");
}

#[test]
fn every_fault_loses_a_wake_up() {
    for fault in [Fault::NoBarrier, Fault::EarlyLook, Fault::NoFenceAtSwitch, Fault::NoSwap] {
        assert!(explore(fault).1, "{fault:?}");
    }
}
