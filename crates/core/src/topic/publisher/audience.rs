//! Who is attached to a publisher, as of its last look, and what has happened since.
//!
//! A look compares the slots with those of the last look. It asks the kernel nothing and reads one line of memory for
//! each slot. `hearing` calls it, and only for a publisher that listens. What the slots say comes from other
//! processes: it is told, and nothing is decided by it.

use std::time::Duration;

use ringbell_ring::{Departure, Ending, Occupant, SlotState};

use crate::port::Writer;
use crate::port::guests::Parting;
use crate::record::Rung;
use crate::topic::notice::{AttachedSubscriber, Eviction, PublisherNotice, SubscriberEnd};

/// The subscribers that were told of.
#[derive(Default)]
pub(super) struct Audience {
    /// By slot. Empty before the first look.
    members: Box<[Option<Member>]>,
    /// Subscribers told of so far.
    count: u64,
}

/// A subscriber that was told of.
struct Member {
    who: Identity,
    subscriber: AttachedSubscriber,
    /// The stall that was told of, by its beginning.
    stall: Option<u64>,
}

/// What tells the owners of one slot apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    Generation(u64),
    /// The number of a guest. The generation of its slot is its own to write.
    Guest(u64),
}

/// What one look tells.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// Also tell of subscribers that have not said by which rung they read. A subscriber says it before it rings, so
    /// this is only for those that never do.
    pub(super) all: bool,
    /// The time, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) now: u64,
    /// For how long a subscriber may be in the way before it counts as stalled.
    pub(super) patience: Duration,
    /// The same for guests.
    pub(super) guest_patience: Duration,
}

impl Audience {
    /// Looks at every slot, and adds what has happened to `notices`.
    pub(super) fn look(&mut self, writer: &mut Writer, look: Look, notices: &mut Vec<PublisherNotice>) {
        let slots = writer.producer().slot_count();
        if self.members.len() != slots {
            self.members = (0..slots).map(|_| None).collect();
        }
        for slot in 0..slots {
            let occupant = writer.producer().occupant(slot);
            let who = occupant.and_then(|occupant| identity(writer, slot, occupant));
            if let Some(gone) = self.members[slot].take_if(|member| who != Some(member.who)) {
                let end = end(&gone, writer, slot, occupant);
                tell_end(gone.subscriber, end, notices);
            }
            let Some((occupant, who)) = occupant.zip(who) else { continue };
            match &mut self.members[slot] {
                Some(member) => {
                    let patience = member.subscriber.uid.map_or(look.patience, |_| look.guest_patience);
                    tell_stall(member, occupant, (look.now, patience), notices);
                }
                None => {
                    if let Some(subscriber) = describe(writer, slot, self.count, look.all) {
                        self.count += 1;
                        // It was that of an earlier one, which nobody was told of.
                        let _ = writer.take_ending(slot);
                        notices.push(PublisherNotice::Attached { subscriber: subscriber.clone() });
                        self.members[slot] = Some(Member { who, subscriber, stall: None });
                    }
                }
            }
        }
    }
}

/// Who reads in a slot. `None`: nobody does.
fn identity(writer: &Writer, slot: usize, occupant: Occupant) -> Option<Identity> {
    if let Some((guests, guest_slot)) = writer.guest(slot) {
        // A guest is there from its first look at the ring until its connection ends.
        return guests.identity(guest_slot).map(|(number, _)| Identity::Guest(number));
    }
    (occupant.state == SlotState::Active).then_some(Identity::Generation(occupant.generation))
}

/// What is told of the subscriber in a slot. `None`: it has not joined, or it will ring when it is done with it.
fn describe(writer: &Writer, slot: usize, number: u64, all: bool) -> Option<AttachedSubscriber> {
    let view = writer.producer().slot_view(slot)?;
    let rung = Rung::from_code(view.way);
    let there = view.state == SlotState::Active && (all || rung.is_some());
    there.then(|| AttachedSubscriber {
        number,
        slot,
        pid: view.pid,
        uid: writer.guest_uid(slot),
        rung,
        durable: view.name_hash != 0,
    })
}

fn tell_stall(
    member: &mut Member,
    occupant: Occupant,
    (now, patience): (u64, Duration),
    notices: &mut Vec<PublisherNotice>,
) {
    let Some(since) = occupant.stalled_since else { return };
    let stalled_for = Duration::from_nanos(now.saturating_sub(since));
    if stalled_for >= patience && member.stall != Some(since) {
        member.stall = Some(since);
        notices.push(PublisherNotice::Stalled { subscriber: member.subscriber.clone(), stalled_for });
    }
}

/// How a subscriber that is no longer in its slot went.
fn end(member: &Member, writer: &mut Writer, slot: usize, occupant: Option<Occupant>) -> SubscriberEnd {
    let ending = writer.take_ending(slot);
    match member.who {
        Identity::Guest(number) => match (ending, parting(writer, slot, number)) {
            (Some((_, Ending::Evicted)), _) => SubscriberEnd::Evicted(Eviction::Stalled),
            (Some((_, Ending::Expelled)), _) | (_, Parting::Banned) => {
                SubscriberEnd::Evicted(Eviction::BrokeRules)
            }
            (_, Parting::Displaced) => SubscriberEnd::Evicted(Eviction::Displaced),
            (_, Parting::Closed) => SubscriberEnd::Closed,
            (Some((_, Ending::Died)), _) | (_, Parting::Died) => SubscriberEnd::Died,
            (_, Parting::Unknown) => SubscriberEnd::Unknown,
        },
        Identity::Generation(own) => match ending.filter(|(generation, _)| *generation == own) {
            Some((_, Ending::Died)) => SubscriberEnd::Died,
            Some((_, Ending::Evicted)) => SubscriberEnd::Evicted(Eviction::Stalled),
            Some((_, Ending::Expelled)) => SubscriberEnd::Evicted(Eviction::BrokeRules),
            None => departure(&member.subscriber, own, occupant),
        },
    }
}

fn parting(writer: &Writer, slot: usize, number: u64) -> Parting {
    let parting = writer.guest(slot).and_then(|(guests, guest_slot)| guests.parting(guest_slot, number));
    parting.unwrap_or(Parting::Unknown)
}

fn departure(subscriber: &AttachedSubscriber, own: u64, occupant: Option<Occupant>) -> SubscriberEnd {
    // This process leaves the slot on behalf of a subscriber that is streamed to, whether that one closed or died.
    let streamed = subscriber.rung == Some(Rung::Stream);
    match occupant.filter(|_| !streamed).map(|now| Departure::of(own, subscriber.durable, now)) {
        Some(Departure::Closed) => SubscriberEnd::Closed,
        Some(Departure::Died) => SubscriberEnd::Died,
        Some(Departure::Unknown) | None => SubscriberEnd::Unknown,
    }
}

fn tell_end(subscriber: AttachedSubscriber, end: SubscriberEnd, notices: &mut Vec<PublisherNotice>) {
    if let SubscriberEnd::Evicted(reason) = end {
        notices.push(PublisherNotice::Evicted { subscriber: subscriber.clone(), reason });
    }
    notices.push(PublisherNotice::Ended { subscriber, reason: end });
}
