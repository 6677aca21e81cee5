//! Messages that are larger than the ring, in pieces, out and in.
//!
//! At most one is on its way in each direction; a caller that has another one to send is told that nothing was sent. No memory is taken
//! for what was only announced, unless the caller takes it. What either side gave up is dropped, and nothing waits for it.

use ringbell_ring::{Fault, Large, MAX_LARGE, Piece};

use super::Link;
use crate::channel::header::{HEADER, Header};
use crate::error::{Error, Result};

/// Most bytes of a large message that one turn takes, so that others get theirs.
const TURN: usize = 4 << 20;

/// A message that is larger than the ring, on its way in.
pub(super) struct Arriving {
    head: [u8; HEADER],
    /// Bytes of header and data that were read.
    done: usize,
    /// Bytes of data in all.
    bytes: usize,
    /// What was collected for a receiver in Rust.
    collected: Vec<u8>,
}

/// What became of a large message in one turn.
pub(in crate::channel) enum Progress {
    /// So many bytes of its data are there.
    Bytes(usize),
    /// It will never be whole: its sender gave it up.
    Gone,
}

impl Link {
    /// Begins (`done` 0) or goes on with a message of any size: as much of it as there is room for. Answers how many bytes of
    /// the data have been sent; without progress also while another large message is on its way.
    pub(in crate::channel) fn send_large(
        &mut self,
        header: Header,
        data: &[u8],
        done: usize,
    ) -> Result<usize> {
        let total = HEADER.saturating_add(data.len());
        let mut done = done.min(data.len());
        self.ensure_there()?;
        match self.sending {
            Some(sending) if sending == (header, data.len()) => {}
            // Another one's turn.
            Some(_) => return Ok(done),
            None if self.duplex.writer.begin_large(total) => self.sending = Some((header, data.len())),
            None => return Err(Error::MessageTooLarge { size: data.len(), limit: MAX_LARGE - HEADER }),
        }
        let mut left = self.duplex.writer.large_left().unwrap_or(0);
        let head = header.encode();
        while left > 0 {
            let sent = total - left;
            let rest = if sent < HEADER { &head[sent..] } else { &data[sent - HEADER..] };
            let pushed = self.duplex.writer.push_large(rest);
            if pushed == 0 {
                self.duplex.writer.note_full();
                self.judge_reader()?;
                break;
            }
            left -= pushed;
        }
        done = data.len() - left.min(data.len());
        if left == 0 {
            self.judge_reader()?;
            self.wanted = None;
            self.sending = None;
        }
        Ok(done)
    }

    /// Gives up the large message that is on its way out; the peer drops what it has of it.
    pub(in crate::channel) fn abandon_large(&mut self) {
        self.sending = None;
        self.duplex.writer.abandon_large();
    }

    /// Takes the header of the large message that is next. `None`: it is not there yet, or none will be.
    pub(in crate::channel) fn arriving(
        &mut self,
        large: Large,
    ) -> std::result::Result<Option<(Header, usize)>, Fault> {
        if large.done == 0 {
            let Some(bytes) = large.total.checked_sub(HEADER) else {
                // Too short to have a header, as a small one may be: nobody's.
                self.duplex.reader.skip_large();
                return Ok(None);
            };
            self.arriving = Some(Arriving { head: [0; HEADER], done: 0, bytes, collected: Vec::new() });
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
        Ok(Header::decode(&arriving.head).map(|(header, _)| (header, arriving.bytes)))
    }

    /// Goes on with the large message whose header was taken: copies to `target`, which has room for all of its data.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` when `target` has another length.
    pub(in crate::channel) fn read_large(
        &mut self,
        target: &mut [u8],
    ) -> Result<std::result::Result<Progress, Fault>> {
        match &self.arriving {
            // Another one has begun in the place of that which the caller has memory for.
            Some(arriving) if arriving.done < HEADER => Ok(Ok(Progress::Gone)),
            Some(arriving) if arriving.bytes != target.len() => Err(Error::InvalidOption {
                option: "target",
                value: target.len().to_string(),
                rule: format!("exactly the {} bytes that come", arriving.bytes),
            }),
            _ => Ok(self.read_pieces(target)),
        }
    }

    fn read_pieces(&mut self, target: &mut [u8]) -> std::result::Result<Progress, Fault> {
        let Some(mut arriving) = self.arriving.take() else { return Ok(Progress::Gone) };
        let begun = arriving.done;
        while arriving.done < HEADER + target.len() && arriving.done - begun < TURN {
            let at = arriving.done - HEADER;
            match self.duplex.reader.read_large(&mut target[at..])? {
                Piece::Copied { bytes, .. } => arriving.done += bytes,
                Piece::Nothing => break,
                Piece::Gone => return Ok(Progress::Gone),
            }
        }
        let bytes = arriving.done - HEADER;
        if bytes < arriving.bytes {
            self.arriving = Some(arriving);
        }
        Ok(Progress::Bytes(bytes))
    }

    /// As `read_large`, into memory of the link's own, which grows with what has come and not with what was announced. The
    /// message, once it is whole.
    pub(in crate::channel) fn collect_large(
        &mut self,
    ) -> std::result::Result<Option<(Header, Vec<u8>)>, Fault> {
        let Some(arriving) = &mut self.arriving else { return Ok(None) };
        let header = Header::decode(&arriving.head).map(|(header, _)| header);
        let (bytes, mut there) = (arriving.bytes, arriving.done - HEADER);
        let mut data = std::mem::take(&mut arriving.collected);
        loop {
            data.resize(bytes.min((there * 2).max(self.duplex.reader.capacity())), 0);
            there = match self.read_pieces(&mut data)? {
                Progress::Bytes(there) if there == bytes => return Ok(header.map(|header| (header, data))),
                Progress::Bytes(there) => there,
                Progress::Gone => return Ok(None),
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
