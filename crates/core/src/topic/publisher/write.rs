//! Sending messages of any size: at once where they fit, else piece by piece while subscribers take away what came before.
//!
//! Only a `block` topic has room for what is larger than [`Publisher::max_message`]: everywhere else a piece could be lost. Until the
//! last piece is in the ring the message does not exist for any subscriber. [`Publisher::write`] is the only sender that waits.

use std::time::{Duration, Instant};

use ringbell_ring::MAX_LARGE;

use super::Publisher;
use crate::error::{Error, Result};
use crate::record::Overflow;

/// Looks for room before a writer sleeps, each of about a third of a microsecond: a subscriber that is awake makes some
/// with every piece that it takes.
const LOOKS: u32 = 200;

impl Publisher {
    /// Sends one message of any size up to 1 GiB (on a topic that is not `block`: up to
    /// [`max_message`](Self::max_message)), and waits for room where there is none.
    ///
    /// False: `timeout` has passed. Of a message that was begun the rest is not sent then; subscribers count it as missed.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN`, `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn write(&mut self, payload: &[u8], timeout: Option<Duration>) -> Result<bool> {
        self.ensure_ready()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if payload.len() <= self.max_message() {
            return Ok(self.soon_room(payload.len(), deadline)? && self.send(payload)?);
        }
        let mut done = 0;
        while done < payload.len() {
            let pushed = self.push_large(payload, done)?;
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
        Ok(self.spin_room(bytes, LOOKS) || self.wait_until(bytes, deadline)?)
    }

    /// The same without waiting, for who waits by other means: sends the next piece of `message`, of which the first `done`
    /// bytes were sent already, and says how many were now; as many as before: there is no room. With `done` = 0 it begins,
    /// whether there is room or not: until it has ended, with its last piece or by
    /// [`abandon_large`](Self::abandon_large), [`send`](Self::send) finds no room, and
    /// [`has_room`](Self::has_room) and its kin are about the next piece.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); `ERR_RINGBELL_INVALID_OPTION` when it is not what was begun.
    pub fn push_large(&mut self, message: &[u8], done: usize) -> Result<usize> {
        self.ensure_ready()?;
        match self.writer().large_left() {
            Some(left) if message.len().checked_sub(left) == Some(done) => {}
            None if done == 0 => self.begin_large(message.len())?,
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
        Ok(done + self.writer().push_large(&message[done..]))
    }

    /// Gives up the message that [`push_large`](Self::push_large) began. If a piece of it was sent, subscribers drop it when
    /// the next message comes, and count it as missed.
    pub fn abandon_large(&mut self) {
        if !self.is_foreign() {
            self.writer().abandon_large();
        }
    }

    fn begin_large(&mut self, size: usize) -> Result<()> {
        let limit = if self.overflow() == Overflow::Block { MAX_LARGE } else { self.max_message() };
        if size > limit {
            return Err(Error::MessageTooLarge { size, limit });
        }
        if !self.writer().begin_large(size) {
            let rule = "from 1 byte, on a block topic; smaller ones can be sent at once".to_owned();
            return Err(Error::InvalidOption { option: "message", value: format!("{size} bytes"), rule });
        }
        Ok(())
    }
}
