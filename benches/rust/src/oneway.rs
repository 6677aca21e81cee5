//! One way, as fast as it goes: the loop of the process that counts, and of the peer that sends. Every rival and floor uses them,
//! so that all are counted alike.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::payload::{self, Check};
use crate::{Arguments, Meter, Outcome, Peer, stop_on_eof};

/// Calls `take`, which hands messages to the check and gives how many, until the window is over. Then goes on with it until the
/// peer has ended, because a peer may wait for room before it looks whether it should stop.
pub fn count(
    arguments: &Arguments,
    size: usize,
    mut peer: Peer,
    mut take: impl FnMut(&mut Check) -> Outcome<u64>,
) -> Outcome<Value> {
    let mut meter = Meter::new(arguments, size)?;
    let (mut since, mut idle) = (0, 0);
    // Large messages are few: the clock is read after each 64 KiB of them, or so.
    let often = (1024 * 64 / size as u64).clamp(1, 1024);
    let result = loop {
        let count = take(&mut meter.check)?;
        since += count;
        if count == 0 {
            spin_loop();
            idle += 1;
        }
        if since >= often || idle >= 4096 {
            (since, idle) = (0, 0);
            if let Some(result) = meter.tick()? {
                break result;
            }
        }
    };
    peer.signal_stop();
    while !peer.exited()? {
        take(&mut meter.check)?;
    }
    peer.finish()?;
    Ok(result)
}

/// What a peer sends into.
pub trait Outlet {
    /// Takes one message, or answers `false`: there is no room.
    fn push(&mut self, message: &[u8]) -> Outcome<bool>;

    /// Makes visible what was pushed, where `push` does not.
    fn commit(&mut self) -> Outcome<()> {
        Ok(())
    }
}

/// Sends until it is told to stop: up to `batch` messages, and a commit.
pub fn pump(size: usize, batch: usize, outlet: &mut impl Outlet) -> Outcome<()> {
    let mut message = vec![7_u8; size];
    let stop = stop_on_eof();
    let mut sequence = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let mut pushed = 0;
        while pushed < batch {
            payload::stamp(&mut message, sequence);
            if !outlet.push(&message)? {
                break;
            }
            sequence = sequence.wrapping_add(1);
            pushed += 1;
        }
        if pushed > 0 {
            outlet.commit()?;
        } else {
            spin_loop();
        }
    }
    Ok(())
}
