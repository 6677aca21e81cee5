//! Topics: one publisher, many subscribers, and what a Rust user holds of them.
//!
//! A [`Publisher`] owns both segments and announces them. A [`Subscriber`] follows every publisher of the topics that
//! it asked for, and merges what they send. Both are `Send`, and one thread at a time uses them. Any event loop can
//! wait on them through `AsFd`. The memory protocol is in `ringbell-ring`; the processes, locks and doorbells around
//! it are in `port`. This folder adds policy only.

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
pub use notice::{AttachedSubscriber, Drained, EndReason, Eviction, Notice, PublisherNotice, SubscriberEnd};
pub use options::{PublisherOptions, Reconnect, Route, SubscriberOptions};
pub use publisher::{Batch, Loan, Publisher, WindowMemory, WindowSpan};
pub use ringbell_ring::{Entry, Position, Start};
pub use stats::{AckStats, PublisherStats, SlotStats, SourceStats, SubscriberStats, TopicCounters};
pub use subscriber::{Message, Subscriber};
