//! Sending messages of any size. A message that fits is sent at once. A larger one is sent in pieces, while
//! subscribers take away what came before.
//!
//! Only a `block` topic takes messages larger than [`Publisher::max_message`]: under the other policies a piece could
//! be lost. Invariant: the message does not exist for any subscriber until its last piece is in the ring.
//! [`Publisher::write`] is the only sender that waits. The binding calls `push_large` and waits by its own means.

use std::time::{Duration, Instant};

use ringbell_ring::MAX_LARGE;

use super::Publisher;
use crate::error::{Error, Result};
use crate::headers::Headers;
use crate::record::Overflow;

/// How often a writer looks for room before it sleeps. One look takes about a third of a microsecond. A subscriber
/// that is awake makes some room with every piece that it takes.
const SPIN_LIMIT: u32 = 200;

impl Publisher {
    /// Sends one message of up to 1 GiB, and waits while there is no room. On a topic that is not `block`, the limit
    /// is [`max_message`](Self::max_message).
    ///
    /// `false` means that `timeout` has passed. If a part of the message was sent by then, the rest is not sent, and
    /// subscribers count the message as missed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut options = PublisherOptions::default();
    /// options.capacity = 4096; // bytes
    /// let mut publisher = bus.publisher("images", options)?;
    /// let mut subscriber = bus.subscriber("images", SubscriberOptions::default())?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    ///
    /// let receiving = std::thread::spawn(move || subscriber.recv().map(|message| message.data.len()));
    /// // The image is larger than the ring. It goes through in pieces, while the subscriber reads.
    /// assert!(publisher.write(&[7; 20_000], Some(Duration::from_secs(30)))?);
    /// assert_eq!(receiving.join().unwrap()?, 20_000);
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN`, `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn write(&mut self, payload: &[u8], timeout: Option<Duration>) -> Result<bool> {
        self.write_with(payload, &Headers::new(), timeout)
    }

    /// As [`write`](Self::write), with headers. They count as part of the message.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_with(
        &mut self,
        payload: &[u8],
        headers: &Headers<'_>,
        timeout: Option<Duration>,
    ) -> Result<bool> {
        self.ensure_ready()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let total = payload.len() + headers.as_bytes().len();
        if total <= self.max_message() {
            return Ok(self.soon_room(total, deadline)? && self.send_with(payload, headers)?);
        }
        let mut done = 0;
        while done < total {
            let pushed = self.push_large_with(payload, headers, done)?;
            if pushed == done {
                let room = self.soon_room(0, deadline);
                if !matches!(room, Ok(true)) {
                    self.abandon_large();
                    return room;
                }
            }
            done = pushed;
        }
        Ok(true)
    }

    fn soon_room(&mut self, bytes: usize, deadline: Option<Instant>) -> Result<bool> {
        Ok(self.spin_room(bytes, SPIN_LIMIT) || self.wait_until(bytes, deadline)?)
    }

    /// Sends the next piece of a message without waiting, for a caller that waits by other means. The first `done`
    /// bytes of `message` were sent before. Answers how many bytes have been sent now. If that is `done` again, there
    /// is no room.
    ///
    /// `done` = 0 begins the message, whether there is room or not. The message ends with its last piece or with
    /// [`abandon_large`](Self::abandon_large). Until then, [`send`](Self::send) finds no room, and
    /// [`has_room`](Self::has_room), [`spin_room`](Self::spin_room), [`arm_room`](Self::arm_room) and
    /// [`wait_room`](Self::wait_room) are about the next piece.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write). `ERR_RINGBELL_INVALID_OPTION` when `message` and `done` do not go on with the
    /// message that was begun.
    pub fn push_large(&mut self, message: &[u8], done: usize) -> Result<usize> {
        self.push_large_with(message, &Headers::new(), done)
    }

    /// As [`push_large`](Self::push_large), with headers: `done` counts the bytes of the message and then those of its
    /// headers ([`Headers::as_bytes`]).
    ///
    /// # Errors
    ///
    /// As [`push_large`](Self::push_large).
    pub fn push_large_with(&mut self, message: &[u8], headers: &Headers<'_>, done: usize) -> Result<usize> {
        self.ensure_ready()?;
        let total = message.len() + headers.as_bytes().len();
        match self.writer.large_left() {
            Some(left) if total.checked_sub(left) == Some(done) => {}
            None if done == 0 => self.begin_large(total, headers.size())?,
            left => {
                return Err(Error::InvalidOption {
                    option: "done",
                    value: done.to_string(),
                    rule: match left {
                        Some(left) => format!("a message of which {left} bytes are left is being sent"),
                        None => "no message is being sent".into(),
                    },
                });
            }
        }
        Ok(done + self.writer.push_large(&[message, headers.as_bytes()]))
    }

    /// Gives up the message that [`push_large`](Self::push_large) began. If a piece of it was sent, subscribers drop
    /// it when the next message comes, and count it as missed.
    pub fn abandon_large(&mut self) {
        if !self.is_foreign() {
            self.writer.abandon_large();
        }
    }

    fn begin_large(&mut self, size: usize, headers: u16) -> Result<()> {
        let limit = if self.overflow() == Overflow::Block { MAX_LARGE } else { self.max_message() };
        if size > limit {
            return Err(Error::MessageTooLarge { size, limit });
        }
        if !self.writer.begin_large(size, headers) {
            let rule = "it must be at least 1 byte, on a block topic; send others at once".to_owned();
            return Err(Error::InvalidOption { option: "message", value: format!("{size} bytes"), rule });
        }
        Ok(())
    }
}
