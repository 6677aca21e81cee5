//! Messages that are larger than the ring. They go in pieces, in both directions.
//!
//! Invariant: at most one is on its way in each direction. A caller that wants to send another one learns that
//! nothing was sent. An announced size alone reserves no memory, unless the caller provides it. A message that either
//! side gave up is dropped, and nothing waits for it. The endpoint calls this when it polls.

use ringbell_ring::{Fault, Large, MAX_LARGE, Piece};

use super::Connection;
use crate::channel::header::{HEADER, Header};
use crate::error::{Error, Result};
use crate::headers::Headers;

/// Most bytes of a large message that one poll takes, so that other connections are not kept waiting.
const MAX_BYTES_PER_POLL: usize = 4 << 20;

/// A message that is larger than the ring, on its way in.
pub(super) struct Arriving {
    head: [u8; HEADER],
    /// Bytes of header and data that were read.
    done: usize,
    /// Bytes of data in total, headers included.
    bytes: usize,
    /// How many of them, at the end, are headers.
    headers: usize,
    /// The data so far, for a receiver in Rust.
    collected: Vec<u8>,
}

/// What became of a large message in one poll.
pub(in crate::channel) enum LargeProgress {
    /// This many bytes of its data are there.
    Bytes(usize),
    /// The message will never be complete: its sender gave it up.
    Gone,
}

impl Connection {
    /// Begins (`done` is 0) or continues a message of any size: sends as much of it as there is room for. Answers how
    /// many bytes of data and headers have been sent. While another large message is on its way, it makes no progress.
    pub(in crate::channel) fn send_large(
        &mut self,
        header: Header,
        data: &[u8],
        headers: &Headers<'_>,
        done: usize,
    ) -> Result<usize> {
        let size = data.len().saturating_add(headers.as_bytes().len());
        let total = HEADER.saturating_add(size);
        self.ensure_there()?;
        match self.sending {
            Some(sending) if sending == (header, size) => {}
            // Another message is being sent.
            Some(_) => return Ok(done.min(size)),
            None if self.duplex.writer.begin_large(total, headers.size()) => {
                self.sending = Some((header, size));
            }
            None => return Err(Error::MessageTooLarge { size, limit: MAX_LARGE - HEADER }),
        }
        let mut left = self.duplex.writer.large_left().unwrap_or(0);
        let head = header.encode();
        while left > 0 {
            let pushed = self.duplex.writer.push_large(&[&head, data, headers.as_bytes()]);
            if pushed == 0 {
                self.duplex.writer.note_full();
                self.check_peer_cursor()?;
                break;
            }
            left -= pushed;
        }
        if left == 0 {
            // As in `send`: all of it is in the ring, so a fault is only noted.
            _ = self.check_peer_cursor();
            self.wanted = None;
            self.sending = None;
        }
        Ok(size - left.min(size))
    }

    /// Gives up the large message that is being sent. The peer drops the part that it has.
    pub(in crate::channel) fn abandon_large(&mut self) {
        self.sending = None;
        self.duplex.writer.abandon_large();
    }

    /// Takes the header of the large message that is next. `None` means that the header is not complete yet, or never
    /// will be.
    pub(in crate::channel) fn arriving(
        &mut self,
        large: Large,
    ) -> std::result::Result<Option<(Header, usize, usize)>, Fault> {
        if large.done == 0 {
            let bytes = large.total.checked_sub(HEADER).filter(|bytes| large.headers <= *bytes);
            let Some(bytes) = bytes else {
                // Too short to have a header, as a small message may be. It is dropped.
                self.duplex.reader.skip_large();
                return Ok(None);
            };
            let headers = large.headers;
            self.arriving =
                Some(Arriving { head: [0; HEADER], done: 0, bytes, headers, collected: Vec::new() });
        }
        let Some(arriving) = &mut self.arriving else {
            self.duplex.reader.skip_large();
            return Ok(None);
        };
        while arriving.done < HEADER {
            match self.duplex.reader.read_large(&mut arriving.head[arriving.done..])? {
                Piece::Copied { bytes, .. } => arriving.done += bytes,
                Piece::Nothing => return Ok(None),
                Piece::Gone => {
                    self.arriving = None;
                    return Ok(None);
                }
            }
        }
        let Arriving { head, bytes, headers, .. } = arriving;
        Ok(Header::decode(head).map(|(header, _)| (header, *bytes - *headers, *headers)))
    }

    /// Continues the large message whose header was taken: copies to `target`, which has room for all of its data and
    /// headers.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` when `target` has another length.
    pub(in crate::channel) fn read_large(
        &mut self,
        target: &mut [u8],
    ) -> Result<std::result::Result<LargeProgress, Fault>> {
        match &self.arriving {
            // Another message has begun, in place of the one that the caller has memory for.
            Some(arriving) if arriving.done < HEADER => Ok(Ok(LargeProgress::Gone)),
            Some(arriving) if arriving.bytes != target.len() => Err(Error::InvalidOption {
                option: "target",
                value: target.len().to_string(),
                rule: format!("it must be exactly the {} bytes that come", arriving.bytes),
            }),
            _ => Ok(self.read_pieces(target)),
        }
    }

    fn read_pieces(&mut self, target: &mut [u8]) -> std::result::Result<LargeProgress, Fault> {
        let Some(mut arriving) = self.arriving.take() else { return Ok(LargeProgress::Gone) };
        let begun = arriving.done;
        while arriving.done < HEADER + target.len() && arriving.done - begun < MAX_BYTES_PER_POLL {
            let at = arriving.done - HEADER;
            match self.duplex.reader.read_large(&mut target[at..])? {
                Piece::Copied { bytes, .. } => arriving.done += bytes,
                Piece::Nothing => break,
                Piece::Gone => return Ok(LargeProgress::Gone),
            }
        }
        let bytes = arriving.done - HEADER;
        if bytes < arriving.bytes {
            self.arriving = Some(arriving);
        }
        Ok(LargeProgress::Bytes(bytes))
    }

    /// As `read_large`, but into the connection's own memory. That memory grows with the bytes that have come, not
    /// with the announced size. Answers the message once it is complete: data and headers, and how long the data is.
    pub(in crate::channel) fn collect_large(
        &mut self,
    ) -> std::result::Result<Option<(Header, Vec<u8>, usize)>, Fault> {
        let Some(arriving) = &mut self.arriving else { return Ok(None) };
        let header = Header::decode(&arriving.head).map(|(header, _)| header);
        let (bytes, mut there) = (arriving.bytes, arriving.done - HEADER);
        let length = bytes - arriving.headers;
        let mut data = std::mem::take(&mut arriving.collected);
        loop {
            data.resize(bytes.min((there * 2).max(self.duplex.reader.capacity())), 0);
            there = match self.read_pieces(&mut data)? {
                LargeProgress::Bytes(there) if there == bytes => {
                    return Ok(header.map(|header| (header, data, length)));
                }
                LargeProgress::Bytes(there) => there,
                LargeProgress::Gone => return Ok(None),
            };
            if there < data.len() {
                if let Some(arriving) = &mut self.arriving {
                    arriving.collected = data;
                }
                return Ok(None);
            }
        }
    }

    /// Drops the large message that is coming in.
    pub(in crate::channel) fn skip_large(&mut self) {
        self.arriving = None;
        self.duplex.reader.skip_large();
    }
}
