//! Counts heap allocations of `send`, batches and receiving, with a global allocator that counts. A program of
//! its own, so that no other figure is measured with such an allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use ringbell::bus::Overflow;
use ringbell_benches::{Arguments, Outcome, payload, print, topics};
use serde_json::json;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counter touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    let count = arguments.number("count", 100_000)? as u32;
    let bus = topics::open_bus(&arguments)?;
    let mut publisher = topics::publisher(&bus, "bench.allocations", &arguments, Overflow::Block, 4)?;
    let mut subscriber = topics::subscriber(&bus, "bench.allocations", None)?;
    topics::attached(&mut subscriber)?;
    let mut message = [7_u8; 256];
    let mut check = payload::Check::new(256);
    let mut sequence = 0_u32;
    let mut allocated = [0_u64; 3];
    // The first pass warms up: what is allocated once is not "per send".
    for pass in 0..2 {
        allocated = [0; 3];
        for _ in 0..count / 64 {
            let start = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..32 {
                payload::stamp(&mut message, sequence);
                sequence += u32::from(publisher.send(&message)?);
            }
            let sent = ALLOCATIONS.load(Ordering::Relaxed);
            let mut batch = publisher.batch()?;
            for _ in 0..32 {
                payload::stamp(&mut message, sequence);
                sequence += u32::from(batch.push(&message)?);
            }
            batch.commit();
            drop(batch);
            let batched = ALLOCATIONS.load(Ordering::Relaxed);
            while subscriber.recv_batch(|message| check.take(message.data))? > 0 {}
            let received = ALLOCATIONS.load(Ordering::Relaxed);
            allocated[0] += sent - start;
            allocated[1] += batched - sent;
            allocated[2] += received - batched;
        }
        if check.bad + check.lost > 0 {
            return Err(format!("pass {pass}: {} damaged, {} lost", check.bad, check.lost).into());
        }
    }
    let each = |total: u64, of: u32| total as f64 / f64::from(of);
    print(&json!({
        "allocationsPerSend": each(allocated[0], count / 2),
        "allocationsPerBatchedMessage": each(allocated[1], count / 2),
        "allocationsPerReceivedMessage": each(allocated[2], count),
    }))
}
