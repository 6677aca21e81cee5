//! The rival shmem-ipc: its ring of fixed-size items in a sealed memfd, both sides spinning. Its signals are left out (the low-level
//! calls that its documentation names): its fastest way. The items are the messages; 1 or more of them are written in each `send`.
#![allow(unsafe_code)] // the reason: the crate hands out raw pointers

use std::fs::{File, OpenOptions};
use std::hint::spin_loop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use nix::sys::eventfd::EventFd;
use ringbell_benches::payload::{self, Check};
use ringbell_benches::{Arguments, Outcome, Peer, oneway, pin, print, roundtrip, say, stop_on_eof};
use shmem_ipc::sharedring::{Receiver, Sender};

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.number("size", 256)? {
        64 => run::<64>(&arguments),
        256 => run::<256>(&arguments),
        4096 => run::<4096>(&arguments),
        65536 => run::<65536>(&arguments),
        1_048_576 => run::<1_048_576>(&arguments),
        size => Err(format!("no messages of {size} bytes").into()),
    }
}

fn run<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    match arguments.scenario.as_str() {
        "one-way" => one_way::<N>(arguments),
        "one-way-peer" => one_way_peer::<N>(arguments),
        "round-trip" => round_trip::<N>(arguments),
        "round-trip-peer" => round_trip_peer::<N>(arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

/// What the peer needs to open the ring: who has it under which number.
fn address<const N: usize>(ring: &Receiver<[u8; N]>) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), ring.memfd().as_file().as_raw_fd())
}

fn memory(path: &str) -> Outcome<File> {
    Ok(OpenOptions::new().read(true).write(true).open(path)?)
}

/// Nobody signals and nobody waits for a signal, so these only fill their places.
fn signal() -> Outcome<File> {
    Ok(File::from(OwnedFd::from(EventFd::new()?)))
}

/// Copies as many messages out as there are, and looks at each copy.
fn take<const N: usize>(ring: &mut Receiver<[u8; N]>, copy: &mut [u8; N], check: &mut Check) -> Outcome<u64> {
    let mut taken = 0;
    ring.receiver_mut().recv(|items, count| {
        taken = count.min(256);
        for at in 0..taken {
            // SAFETY: the crate gives `count` items that were written and are not given back before this closure ends; `copy` is
            // memory of ours.
            unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(items.add(at).cast(), N) };
            check.take(copy);
        }
        taken
    })?;
    Ok(taken as u64)
}

fn put<const N: usize>(ring: &mut Sender<[u8; N]>, message: &[u8]) -> Outcome<bool> {
    let mut sent = false;
    ring.sender_mut().send(|items, _| {
        sent = message.len() == N;
        if sent {
            // SAFETY: the crate gives at least one item to write, and the message is as long as one.
            unsafe { items.cast::<u8>().copy_from_nonoverlapping(message.as_ptr(), N) };
        }
        usize::from(sent)
    })?;
    Ok(sent)
}

/// A commit for each message.
struct Each<const N: usize>(Sender<[u8; N]>);

impl<const N: usize> oneway::Outlet for Each<N> {
    fn push(&mut self, message: &[u8]) -> Outcome<bool> {
        put(&mut self.0, message)
    }
}

fn one_way<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    let items = (arguments.number("capacity", 1 << 20)? / N).max(2);
    let mut ring = Receiver::<[u8; N]>::new(items)?;
    let mut peer = Peer::start(
        "one-way-peer",
        &[
            ("memory", address(&ring)),
            ("size", N.to_string()),
            ("items", items.to_string()),
            ("batch", arguments.text("batch", "1")),
            ("cores", format!("{peer_core},{peer_core}")),
        ],
    )?;
    peer.line()?;
    pin(own_core)?;
    let mut copy = Box::new([0_u8; N]);
    print(&oneway::count(arguments, N, peer, |check| take(&mut ring, &mut copy, check))?)
}

fn one_way_peer<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let items = arguments.number("items", 2)?;
    let mut ring =
        Sender::<[u8; N]>::open(items, memory(&arguments.text("memory", ""))?, signal()?, signal()?)?;
    let batch = arguments.number("batch", 1)?;
    say("ready")?;
    if batch == 1 {
        return oneway::pump(N, 1, &mut Each(ring));
    }
    let stop = stop_on_eof();
    let mut message = vec![7_u8; N];
    let mut sequence = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        ring.sender_mut().send(|items, count| {
            let batch = count.min(batch);
            for at in 0..batch {
                payload::stamp(&mut message, sequence);
                sequence = sequence.wrapping_add(1);
                // SAFETY: the crate gives `count` items to write, and `message` is as long as one.
                unsafe { items.add(at).cast::<u8>().copy_from_nonoverlapping(message.as_ptr(), N) };
            }
            batch
        })?;
    }
    Ok(())
}

fn round_trip<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    let items = (65536 / N).max(2);
    // Each ring is made by one receiver; the peer's comes with its first line.
    let mut back = Receiver::<[u8; N]>::new(items)?;
    let mut peer = Peer::start(
        "round-trip-peer",
        &[
            ("memory", address(&back)),
            ("size", N.to_string()),
            ("items", items.to_string()),
            ("cores", format!("{peer_core},{peer_core}")),
        ],
    )?;
    let mut out = Sender::<[u8; N]>::open(items, memory(&peer.line()?)?, signal()?, signal()?)?;
    pin(own_core)?;
    let mut message = vec![7_u8; N];
    let mut copy = Box::new([0_u8; N]);
    let mut check = Check::new(N);
    let result = roundtrip::measure(arguments, 64, |sequence| {
        payload::stamp(&mut message, sequence);
        put(&mut out, &message)?;
        while take(&mut back, &mut copy, &mut check)? == 0 {
            spin_loop();
        }
        Ok(())
    })?;
    peer.signal_stop();
    peer.finish()?;
    roundtrip::checked(&check)?;
    print(&result)
}

fn round_trip_peer<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let items = arguments.number("items", 2)?;
    let mut out = Receiver::<[u8; N]>::new(items)?;
    let mut back =
        Sender::<[u8; N]>::open(items, memory(&arguments.text("memory", ""))?, signal()?, signal()?)?;
    say(&address(&out))?;
    let stop = stop_on_eof();
    let mut copy = Box::new([0_u8; N]);
    let mut check = Check::new(N);
    while !stop.load(Ordering::Relaxed) {
        if take(&mut out, &mut copy, &mut check)? == 0 {
            spin_loop();
        } else {
            put(&mut back, &*copy)?;
        }
    }
    Ok(())
}
