//! What passes over one connection of an endpoint: messages, room for them, large ones in pieces, and descriptors.
//!
//! Whatever is sent, or waited for, wakes its connection, so that the answer, the room or the end that follows is seen. A fault ends its
//! connection and no other. Descriptors outlive the connection over which they came, those of a limited number of peers.

use std::os::fd::BorrowedFd;

use super::{Channel, fault_error};
use crate::channel::fd_socket::FdSocket;
use crate::channel::header::Header;
use crate::channel::link::Progress;
use crate::channel::notice::{CloseReason, Notice};
use crate::channel::parcel::Parcel;
use crate::error::Result;

/// Ended connections of which what came over the socket is kept until somebody takes it.
const LEFTOVERS: usize = 64;

impl Channel {
    /// Sends one message. `false`: there is no room, nothing happened; wait for room and send it again.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_PEER_GONE` when there is no such connection any more,
    /// `ERR_RINGBELL_CORRUPT_PEER`, `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub fn send(&mut self, connection: u32, header: Header, data: &[u8]) -> Result<bool> {
        let sent = self.link(connection)?.send(header, data);
        // An answer is likely, or a fault is to be told.
        self.wake(connection);
        sent
    }

    /// Largest data of one message to this connection, in bytes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn max_message(&mut self, connection: u32) -> Result<usize> {
        Ok(self.link(connection)?.max_message())
    }

    /// Whether a message with `data` bytes would find room; also when there is no such connection, so that nobody waits.
    pub fn has_room(&mut self, connection: u32, data: usize) -> bool {
        self.link(connection).map_or(true, |link| link.has_room(data))
    }

    /// Announces that somebody waits for room for a message with `data` bytes. True: there is none; sleep on `as_fd`.
    pub fn arm_room(&mut self, connection: u32, data: usize) -> bool {
        let none = self.link(connection).is_ok_and(|link| link.arm_room(data));
        if none {
            self.wake(connection);
        }
        none
    }

    /// Begins (`done` 0) or goes on with a message of any size up to 1 GiB, in pieces: as much of it as there is room for.
    /// Answers how many bytes of `data` have been sent; the message is sent when that is all of them. Nothing else can be
    /// sent on this connection in between: [`send`](Self::send) answers that there is no room, and so does this for another
    /// message. Wait for room with any number of bytes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_large(&mut self, connection: u32, header: Header, data: &[u8], done: usize) -> Result<usize> {
        let sent = self.link(connection)?.send_large(header, data, done);
        self.wake(connection);
        sent
    }

    /// Gives up the large message that is on its way out; the peer drops what it has of it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn abandon_large(&mut self, connection: u32) -> Result<()> {
        self.link(connection)?.abandon_large();
        Ok(())
    }

    /// Goes on with the large message that [`Drained::Large`](crate::channel::Drained::Large) told of: copies what has come of
    /// its data to `target`, which has exactly as many bytes, and answers how many are there by now. `None`: its sender gave it
    /// up, or it is not there.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `ERR_RINGBELL_INVALID_OPTION` when `target` has another length.
    pub fn read_large(&mut self, connection: u32, target: &mut [u8]) -> Result<Option<usize>> {
        match self.link(connection)?.read_large(target)? {
            Ok(Progress::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Progress::Gone) => Ok(None),
            Err(fault) => {
                if let Ok(index) = self.find(connection) {
                    self.end(index, CloseReason::Failed(fault_error(fault)));
                }
                Ok(None)
            }
        }
    }

    /// Drops the large message that [`Drained::Large`](crate::channel::Drained::Large) told of, and what comes of it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn skip_large(&mut self, connection: u32) -> Result<()> {
        self.link(connection)?.skip_large();
        Ok(())
    }

    /// As `read_large`, but the link keeps what has come until all of it has.
    pub(super) fn collect_large(&mut self, connection: u32) -> Result<Option<(Header, Vec<u8>)>> {
        match self.link(connection)?.collect_large() {
            Ok(whole) => Ok(whole),
            Err(fault) => {
                if let Ok(index) = self.find(connection) {
                    self.end(index, CloseReason::Failed(fault_error(fault)));
                }
                Ok(None)
            }
        }
    }

    /// Sends descriptors, with at most 32 KiB of data. `false`: not at the moment; try again a little later.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION`, and as [`send`](Self::send).
    pub fn send_fds(&mut self, connection: u32, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool> {
        self.link(connection)?.send_fds(data, fds)
    }

    /// The oldest descriptors that this connection's peer has sent, if there are any.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn receive_fds(&mut self, connection: u32) -> Result<Option<Parcel>> {
        if let Some(at) = self.leftovers.iter().position(|(of, _)| *of == connection) {
            let fd_socket = &mut self.leftovers[at].1;
            let parcel = fd_socket.take();
            if !fd_socket.has_parcels() {
                self.leftovers.remove(at);
                self.forget_descriptors(connection);
            }
            return Ok(parcel);
        }
        let link = self.link(connection)?;
        let parcel = link.take_parcel();
        if !link.has_parcels() {
            self.forget_descriptors(connection);
        }
        // Its end may have been seen behind the last of them.
        self.wake(connection);
        Ok(parcel)
    }

    /// Descriptors that a peer sent before its end can still be taken, of so many peers.
    pub(super) fn keep(&mut self, connection: u32, fd_socket: FdSocket) {
        if self.leftovers.len() == LEFTOVERS {
            // Who only comes to leave something behind is not to cost one's own user what is kept of it.
            let of_others = self.leftovers.iter().position(|(_, kept)| kept.is_of_another_user());
            self.leftovers.remove(of_others.unwrap_or(0));
        }
        self.leftovers.push_back((connection, fd_socket));
        self.tell(Notice::Descriptors { connection });
    }

    /// There are none to be told of any more.
    pub(super) fn forget_descriptors(&mut self, connection: u32) {
        self.notices
            .retain(|notice| !matches!(notice, Notice::Descriptors { connection: of } if *of == connection));
    }
}
