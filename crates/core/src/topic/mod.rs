//! Topics: one publisher, many subscribers, and what a Rust user holds of them.
//!
//! A [`Publisher`] owns both segments and announces them; a [`Subscriber`] follows every publisher of the topics it
//! asked for and merges what they send. Both are `Send`, belong to one thread at a time, and can be waited on by any
//! event loop through `AsFd`. The memory protocol is `ringbell-ring`'s; the processes, locks and doorbells around it
//! are added here.

mod acks;
mod acquire;
mod follower;
mod gathering;
mod notice;
mod options;
mod publisher;
mod source;
mod stats;
mod subscriber;
#[cfg(test)]
mod tests;

pub use acks::AckMode;
#[cfg(test)]
pub(crate) use acquire::tests::watchdog;
pub use notice::{Drained, EndReason, Notice};
pub use options::{PublisherOptions, Reconnect, SubscriberOptions};
pub use publisher::{Batch, Loan, Publisher, WindowMemory, WindowSpan};
pub use ringbell_ring::{Entry, Position, Start};
pub use stats::{AckStats, PublisherStats, SlotStats, SourceStats, SubscriberStats, TopicCounters};
pub use subscriber::{Message, Subscriber};
