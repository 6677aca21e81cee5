//! States: a value that one process sets and any process reads, and what a Rust user holds of them.
//!
//! A state is a topic under another kind of record. Its ring drops the oldest, and its readers want only the newest message:
//! [`State`] is a publisher, and [`StateReader`] a subscriber that looks at the newest message of the newest writer. So
//! every rung, other users and the doorbells are those of topics, and nothing here touches memory. With keys, the same
//! ring is a log: [`KeyedState`] writes what must not be lost again before the ring gives it up, and [`KeyedReader`]
//! builds its table from it.

mod entry;
mod keyed;
mod log;
mod notice;
mod options;
mod reader;
mod table;
mod value;
mod waiting;
mod writer;

pub use keyed::KeyedReader;
pub use log::KeyedState;
pub use notice::StateNotice;
pub use options::{StateOptions, StateReaderOptions};
pub use reader::{Reading, StateReader, Value, Version};
pub use value::State;
pub use writer::StateWriter;
