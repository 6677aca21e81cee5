//! Batch windows for the binding: JavaScript fills payloads in memory that it sees, then one call writes the headers
//! and commits.
//!
//! Under `block` and `drop-newest` the memory is the publisher's own ring. Under `drop-oldest` it is a private
//! buffer: opening a window in the ring would give up the oldest messages, perhaps long before the window is
//! committed. Invariant: one window is open at most, and nothing else is sent until it is committed or abandoned.
//! This file never reads what JavaScript has written.

use std::sync::Arc;

use ringbell_ring::{BATCH_OVERHEAD, padded};

use super::Publisher;
use crate::error::{Error, Result};
use crate::record::Overflow;
use crate::segment::PrivateBuffer;

/// Most bytes of a window, unless its caller asks for more. The limit bounds how long a subscriber waits for the
/// first message of a batch. It also gives the subscriber work while the next batch is filled.
const WINDOW: usize = 64 << 10;

/// Which memory a window lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowMemory {
    /// The frames area, [`Publisher::frames_memory`].
    Ring,
    /// The private buffer, [`Publisher::window_buffer`].
    Buffer,
}

/// Where an open window lies. It holds message after message. Each has 8 bytes of header and its payload, padded to
/// 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Which memory it lies in.
    pub memory: WindowMemory,
    /// Offset of the first message's header, in bytes.
    pub offset: usize,
    /// Length in bytes, headers and padding included.
    pub length: usize,
}

impl Publisher {
    /// Opens a window with room for messages that take `bytes` (see [`padded`]), or more. `None` means that there is
    /// no room; the refusal is counted. Nothing else can be sent until the window is committed or abandoned.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_WINDOW_OPEN`, `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_RESOURCE`.
    pub fn open_window(&mut self, bytes: usize) -> Result<Option<WindowSpan>> {
        self.ensure_ready()?;
        let largest = padded(self.max_message());
        if bytes > largest {
            return Err(Error::MessageTooLarge { size: bytes - (padded(0)), limit: self.max_message() });
        }
        let most = WINDOW.min(largest).max(bytes);
        let span = if self.overflow() == Overflow::DropOldest {
            let length = self.buffer()?.len().min(most);
            Some(WindowSpan { memory: WindowMemory::Buffer, offset: 0, length })
        } else {
            let span = self.writer.reserve(bytes, most);
            if span.is_none() {
                self.writer.note_full();
            }
            span.map(|span| WindowSpan {
                memory: WindowMemory::Ring,
                offset: span.offset,
                length: span.length,
            })
        };
        self.window = span;
        Ok(span)
    }

    /// Commits what was filled into the open window. `lengths` has one length for each payload, in their order.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` when no window is open, or when the lengths do not fit into the open one, which
    /// stays open. `ERR_RINGBELL_NOT_PRIMARY` when the member is a standby meanwhile; then nothing is sent.
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn commit_window(&mut self, lengths: &[u32]) -> Result<()> {
        self.ensure_home()?;
        let used = lengths.iter().try_fold(0usize, |used, &length| used.checked_add(padded(length as usize)));
        let window = self.window;
        let (Some(window), Some(used)) =
            (window, used.filter(|&used| window.is_some_and(|w| used <= w.length)))
        else {
            return Err(Error::InvalidOption {
                option: "lengths",
                value: format!("{} lengths", lengths.len()),
                rule: "it needs an open window that the messages fit into, each with 8 bytes of header, padded to 8"
                    .into(),
            });
        };
        if used > 0 && self.barred {
            // It was opened while the member was primary.
            self.window = None;
            return Err(self.not_primary());
        }
        if used > 0 {
            if window.memory == WindowMemory::Buffer {
                let buffer = self.buffer()?;
                // A topic that drops the oldest messages has room for everything that fits into half of its ring.
                if self.writer.reserve(used, used).is_some() {
                    buffer.copy_to(self.writer.reserved_bytes());
                }
            }
            self.writer.commit(lengths);
        }
        self.window = None;
        Ok(())
    }

    /// Gives the open window up. Nothing of it is sent.
    pub fn abandon_window(&mut self) {
        self.window = None;
    }

    /// The buffer for the windows of a `drop-oldest` topic. There is none before the first window.
    pub fn window_buffer(&self) -> Option<Arc<PrivateBuffer>> {
        self.buffer.clone()
    }

    fn buffer(&mut self) -> Result<Arc<PrivateBuffer>> {
        if let Some(buffer) = &self.buffer {
            return Ok(buffer.clone());
        }
        let len = self.capacity() / 2 - BATCH_OVERHEAD;
        Ok(self.buffer.insert(Arc::new(PrivateBuffer::new(len)?)).clone())
    }
}
