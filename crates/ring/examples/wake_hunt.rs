//! Looks for a lost wake-up for as long as one likes: `cargo run --release --example wake_hunt -- ROUNDS [SUBSCRIBERS]`.
#[cfg(not(any(loom, miri)))]
#[path = "../tests/support/mod.rs"]
mod support;

#[cfg(any(loom, miri))]
fn main() {}

#[cfg(not(any(loom, miri)))]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, subscribers) = (number(1_000_000), number(2));
    let begin = std::time::Instant::now();
    let report = support::hunt::hunt(rounds, subscribers.clamp(1, 16) as usize);
    println!(
        "{rounds} messages to {subscribers} subscribers in {:.1?}: no wake-up lost, {report:?}",
        begin.elapsed()
    );
}
