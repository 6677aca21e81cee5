//! Which guests are let in and evicted, and what a guest can cost its publisher. These tests need no ring.

use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use ringbell_ring::Overflow;

use super::admission::{FIRST_PENALTY, LONGEST_PENALTY};
use super::keeper::SURPLUS;
use super::*;
use crate::port::doorbell::DrainedRings;
use crate::sys::fork::ForkGuarded;

fn guests(count: usize) -> Arc<Guests> {
    let identity = Identity { capacity: 4096, max_slots: 1, overflow: Overflow::Block, nonce: [1, 2] };
    Guests::new(count, identity, Arc::new(EventFd::new().unwrap())).unwrap()
}

/// Admits a guest, and returns its end of the connection.
fn entry(guests: &Arc<Guests>, uid: u32) -> SocketDoorbell {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    assert!(guests.admit(uid, Instant::now()).unwrap().connect(ForkGuarded::new(ours)));
    let guest = SocketDoorbell::new(ForkGuarded::new(theirs));
    guest.drain();
    guest
}

fn rings(guest: &SocketDoorbell) -> usize {
    match guest.drain() {
        DrainedRings::Rings(count) => count,
        DrainedRings::End => panic!("it was put out"),
    }
}

#[test]
fn the_penalty_of_a_banned_user_doubles_each_time() {
    let guests = guests(2);
    let mut now = Instant::now();
    let refused = |uid, now| guests.admit(uid, now).err();
    for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
        let ticket = guests.admit(7, now).unwrap();
        guests.ban(ticket.slot, now);
        now += Duration::from_millis(100);
        assert_eq!(refused(7, now), Some(AdmissionError::Penalty(seconds)));
        assert_eq!(refused(8, now), None, "another user has nothing to do with it");
        now += Duration::from_secs(seconds);
    }
    now += LONGEST_PENALTY;
    let ticket = guests.admit(7, now).unwrap();
    guests.ban(ticket.slot, now);
    assert_eq!(refused(7, now), Some(AdmissionError::Penalty(2)), "forgotten: a second, begun");
    assert_eq!(refused(7, now + FIRST_PENALTY), None);
}

#[test]
fn the_user_with_the_most_gives_way_and_by_its_youngest() {
    let guests = guests(3);
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let greedy: Vec<_> = (0..3).map(|n| guests.admit(7, at(n)).unwrap()).collect();
    assert_eq!(guests.admit(7, at(4)).err(), Some(AdmissionError::Full));
    let modest = guests.admit(8, at(5)).unwrap();
    assert_eq!(modest.slot, greedy[2].slot);
    assert_eq!(guests.admit(8, at(6)).err(), Some(AdmissionError::Full), "one against two is fair");
    // An evicted guest learns so from its reservation, and takes no other guest's entry with it.
    let (socket, _other) = nix::unistd::pipe().unwrap();
    let mut greedy = greedy.into_iter();
    assert!(!greedy.next_back().unwrap().connect(ForkGuarded::new(socket)));
    assert_eq!((0..3).filter(|slot| guests.uid(*slot) == Some(8)).count(), 1);
    drop((greedy, modest));
    assert_eq!(guests.admitted.bits(), 0);
}

/// A guest that is streamed to goes a moment after it is told to. Another guest that comes quickly must not get its
/// slot.
#[test]
fn a_slot_freed_for_a_user_is_reserved_for_that_user() {
    let guests = guests(3);
    let begin = Instant::now();
    let at = |milliseconds| begin + Duration::from_millis(milliseconds);
    let stream = |uid, now| guests.admit_to_stream(uid, now);
    let mut greedy: Vec<_> = (0..3).map(|n| stream(7, at(n)).ok().unwrap()).collect();
    assert_eq!(stream(8, at(10)).err(), Some(AdmissionError::Busy));
    let youngest = greedy.pop().unwrap();
    assert!(youngest.is_lost() && greedy.iter().all(|one| !one.is_lost()));
    assert_eq!(stream(8, at(11)).err(), Some(AdmissionError::Busy), "and no other guest has to go for it");
    assert_eq!(guests.admit(9, at(11)).err(), Some(AdmissionError::Busy), "one at a time");
    let slot = youngest.number();
    drop(youngest);
    assert_eq!(stream(7, at(12)).err(), Some(AdmissionError::Full));
    assert_eq!(stream(8, at(13)).ok().map(|one| one.number()), Some(slot));
    // A user that does not come for the slot loses it.
    let back = stream(7, at(14)).ok().unwrap();
    assert_eq!(stream(8, at(15)).err(), Some(AdmissionError::Busy));
    drop(back);
    assert!(stream(7, at(16)).is_err());
    assert!(stream(7, at(15) + Duration::from_millis(200)).is_ok());
}

#[test]
fn a_user_is_banned_when_the_publisher_gives_its_guest_up() {
    let guests = guests(1);
    let now = Instant::now();
    let guest = guests.admit_to_stream(7, now).ok().unwrap();
    guests.admitted.dismiss(guest.number());
    drop(guest);
    assert!(matches!(guests.admit(7, now), Err(AdmissionError::Penalty(_))));
    assert!(guests.admit(8, now).is_ok());
}

#[test]
fn each_guest_has_generations_of_its_own_wherever_it_sits() {
    let guests = guests(1);
    for _ in 0..3 {
        let ticket = guests.admit(7, Instant::now()).unwrap();
        assert!(guests.admitted.contains(0));
        drop(ticket);
        assert!(!guests.admitted.contains(0), "given back");
    }
    assert_eq!(guests.admission().count, 3);
}

#[test]
fn repeated_admissions_of_a_user_are_rationed() {
    let guests = guests(1);
    let now = Instant::now();
    let admitted = (0..200).filter(|_| guests.admit(7, now).is_ok()).count();
    assert!((32..200).contains(&admitted), "{admitted} at once");
    assert!(guests.admit(8, now).is_ok(), "another user is not");
}

/// A guest may say that it sleeps, as often as it likes. Rings beyond its ration come later, as one ring.
#[test]
fn rings_beyond_the_ration_are_owed_and_paid_together() {
    let guests = guests(1);
    let guest = entry(&guests, 7);
    let mut sent = 0;
    let rounds = (0..100_000).take_while(|_| guests.owed.load(Ordering::Relaxed) == 0).inspect(|_| {
        guests.ring(1);
        sent += rings(&guest);
    });
    let rounds = rounds.count();
    assert!(rounds < 100_000, "nothing is ever owed");
    assert_eq!(sent, rounds - 1, "each but the last was rung at once");
    assert!(guests.nudge.drain() > 0, "the bus thread hears of it");
    for _ in 0..10 {
        guests.owed.fetch_or(1, Ordering::Relaxed);
    }
    let now = Instant::now();
    let tick = guests.pay(now).expect("there may be more");
    assert_eq!((rings(&guest), guests.owed.load(Ordering::Relaxed)), (1, 0));
    guests.owed.store(1, Ordering::Relaxed);
    assert_eq!((guests.pay(now), rings(&guest)), (Some(tick), 0), "not before the tick");
    guests.pay(tick);
    assert_eq!(rings(&guest), 1);
}

#[test]
fn the_room_doorbell_rings_once_per_wait_of_the_publisher() {
    let guests = guests(2);
    let (one, other) = (entry(&guests, 7), entry(&guests, 8));
    let now = Instant::now();
    one.ring();
    guests.poll(now);
    assert_eq!(guests.room.drain(), 0);
    guests.announce_wait();
    one.ring();
    other.ring();
    guests.poll(now);
    assert_eq!(guests.room.drain(), 1);
    guests.announce_wait();
    // The test does not drop the socket: another test may start a child just now, which holds this end for a
    // moment.
    other.shutdown();
    guests.poll(now);
    assert_eq!((guests.room.drain(), guests.admitted.bits()), (1, 1), "who goes makes room, too");
}

#[test]
fn more_rings_than_there_were_waits_are_a_breach() {
    let guests = guests(1);
    let guest = entry(&guests, 7);
    let mut now = Instant::now();
    for _ in 0..1000 {
        guests.announce_wait();
        guest.ring();
        now += Duration::from_secs(1);
        guests.poll(now);
    }
    assert!(guests.admitted.contains(0), "one for each wait is what it may");
    // In some rounds there is no room in the socket. In some, the guest is paused first.
    let rounds = (0..10 * SURPLUS).take_while(|_| {
        guest.ring();
        now += Duration::from_secs(1);
        guests.poll(now);
        guests.admitted.contains(0)
    });
    assert!((SURPLUS..9 * SURPLUS).contains(&(rounds.count() as u64)));
    assert_eq!(guest.drain(), DrainedRings::End);
    assert!(matches!(guests.admit(7, now), Err(AdmissionError::Penalty(_))));
}

#[test]
fn how_a_guest_left_is_known() {
    let guests = guests(2);
    let begin = Instant::now();
    let left = |slot, number| guests.parting(slot, number);
    let (first, second) = (guests.admit(7, begin).unwrap(), guests.admit(7, begin).unwrap());
    let [one, two] = [&first, &second].map(|guest| guests.identity(guest.slot).unwrap().0);
    assert_eq!(left(first.slot, one), None, "it is there");
    guests.ban(first.slot, begin);
    assert_eq!(left(first.slot, one), Some(Parting::Banned));
    let slot = first.slot;
    drop(first);
    assert_eq!(left(slot, one), Some(Parting::Banned), "the first reason counts");
    let slot = second.slot;
    drop(second);
    assert_eq!((left(slot, two), left(slot, one)), (Some(Parting::Unknown), None));
}
