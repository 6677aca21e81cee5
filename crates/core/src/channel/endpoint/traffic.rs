//! What passes over one connection of an endpoint: messages, the room for them, large messages in pieces, and
//! descriptors.
//!
//! Invariant: a fault ends its own connection and no other. The endpoint's users call this. A send or a wait for room
//! wakes its connection, so that the endpoint sees the answer, the room or the end that follows. Descriptors that
//! came over a connection can still be taken after its end. They are kept only for a limited number of connections.

use std::os::fd::BorrowedFd;

use super::Channel;
use crate::channel::connection::LargeProgress;
use crate::channel::fd_socket::FdSocket;
use crate::channel::header::Header;
use crate::channel::notice::{CloseReason, Notice};
use crate::channel::parcel::Parcel;
use crate::error::Result;
use crate::headers::Headers;

/// For at most this many ended connections, descriptors are kept until the caller takes them.
const LEFTOVERS: usize = 64;

impl Channel {
    /// Sends one message. `false` means that there was no room and nothing happened: wait for room and send it again.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_PEER_GONE` when there is no such connection any more,
    /// `ERR_RINGBELL_CORRUPT_PEER`, `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub fn send(&mut self, connection: u32, header: Header, data: &[u8]) -> Result<bool> {
        self.send_with(connection, header, data, &Headers::new())
    }

    /// As [`send`](Self::send), with headers. They count as part of the data.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_with(
        &mut self,
        connection: u32,
        header: Header,
        data: &[u8],
        headers: &Headers<'_>,
    ) -> Result<bool> {
        let sent = self.connection(connection)?.send(header, data, headers);
        // The peer will probably answer, or a fault has to be reported.
        self.wake(connection);
        sent
    }

    /// Largest data of one message to this connection, in bytes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn max_message(&mut self, connection: u32) -> Result<usize> {
        Ok(self.connection(connection)?.max_message())
    }

    /// Whether a message with `data` bytes would find room. It is also true when there is no such connection, so that
    /// no caller waits for it.
    pub fn has_room(&mut self, connection: u32, data: usize) -> bool {
        self.connection(connection).map_or(true, |open| open.has_room(data))
    }

    /// Announces that the caller waits for room for a message with `data` bytes. True means that there is none: sleep
    /// on `as_fd`.
    pub fn arm_room(&mut self, connection: u32, data: usize) -> bool {
        let none = self.connection(connection).is_ok_and(|open| open.arm_room(data));
        if none {
            self.wake(connection);
        }
        none
    }

    /// Sends a message of up to 1 GiB in pieces: as much of it as there is room for now. `done` is 0 at the first
    /// call, and the last answer at later ones. Answers how many bytes of `data` have been sent. When these are all
    /// bytes, the message is sent.
    ///
    /// Nothing else can be sent on this connection in between. [`send`](Self::send) answers that there is no room,
    /// and this function makes no progress with another message. To wait for room, any number of bytes will do.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_large(&mut self, connection: u32, header: Header, data: &[u8], done: usize) -> Result<usize> {
        self.send_large_with(connection, header, data, &Headers::new(), done)
    }

    /// As [`send_large`](Self::send_large), with headers: `done` and the answer count the bytes of the data and then those
    /// of the headers ([`Headers::as_bytes`]).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_large_with(
        &mut self,
        connection: u32,
        header: Header,
        data: &[u8],
        headers: &Headers<'_>,
        done: usize,
    ) -> Result<usize> {
        let sent = self.connection(connection)?.send_large(header, data, headers, done);
        self.wake(connection);
        sent
    }

    /// Gives up the large message that is being sent. The peer drops the part that it has.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn abandon_large(&mut self, connection: u32) -> Result<()> {
        self.connection(connection)?.abandon_large();
        Ok(())
    }

    /// Reads more of the large message that [`Drained::Large`](crate::channel::Drained::Large) told of. Copies what
    /// has come of its data and headers to `target`, which has exactly as many bytes as both. Answers how many bytes are
    /// there by now. `None` means that the sender gave the message up, or that there is no such message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `ERR_RINGBELL_INVALID_OPTION` when `target` has another length.
    pub fn read_large(&mut self, connection: u32, target: &mut [u8]) -> Result<Option<usize>> {
        match self.connection(connection)?.read_large(target)? {
            Ok(LargeProgress::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(LargeProgress::Gone) => Ok(None),
            Err(fault) => {
                if let Ok(index) = self.find(connection) {
                    self.end(index, CloseReason::Failed(fault.into()));
                }
                Ok(None)
            }
        }
    }

    /// Drops the large message that [`Drained::Large`](crate::channel::Drained::Large) told of, and the rest of it
    /// when it comes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn skip_large(&mut self, connection: u32) -> Result<()> {
        self.connection(connection)?.skip_large();
        Ok(())
    }

    /// As `read_large`, but the connection keeps what has come until the message is complete.
    pub(super) fn collect_large(&mut self, connection: u32) -> Result<Option<(Header, Vec<u8>, usize)>> {
        match self.connection(connection)?.collect_large() {
            Ok(whole) => Ok(whole),
            Err(fault) => {
                if let Ok(index) = self.find(connection) {
                    self.end(index, CloseReason::Failed(fault.into()));
                }
                Ok(None)
            }
        }
    }

    /// Sends 1 to 16 open descriptors, with at most 32 KiB of data. `false` means that the kernel takes none at the
    /// moment: try again a little later.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use std::os::fd::AsFd;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::channel::{ChannelOptions, ConnectOptions, Notice, ServerOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("bus");
    /// # let open = || Bus::open(BusOptions { path: Some(path.clone()), ..BusOptions::default() });
    /// # let mut server = open()?.serve("files", ServerOptions::default())?;
    /// # let bus = open()?;
    /// # let record = bus.wait_for("files", Some(Duration::from_secs(30)))?;
    /// # let mut client = bus.channel(ChannelOptions::default())?;
    /// # let connection = client.connect(&record, &ConnectOptions::default())?;
    /// # client.wait_open(connection, Duration::from_secs(30))?;
    ///
    /// let file = tempfile::tempfile().unwrap();
    /// assert!(client.send_fds(connection, b"a file", &[file.as_fd()])?);
    ///
    /// // The server learns of it by a notice.
    /// let parcel = 'received: loop {
    ///     server.wait(None)?;
    ///     for notice in server.notices() {
    ///         if let Notice::Descriptors { connection } = notice
    ///             && let Some(parcel) = server.receive_fds(connection)?
    ///         {
    ///             break 'received parcel;
    ///         }
    ///     }
    /// };
    /// assert_eq!(parcel.data, b"a file");
    /// assert_eq!(parcel.fds.len(), 1);
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` for no or too many descriptors, and for one that is not open; and as
    /// [`send`](Self::send).
    pub fn send_fds(&mut self, connection: u32, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool> {
        self.connection(connection)?.send_fds(data, fds)
    }

    /// The oldest descriptors that this connection's peer has sent, or `None`. They can still be taken after the
    /// connection's end.
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
        let open = self.connection(connection)?;
        let parcel = open.take_parcel();
        if !open.has_parcels() {
            self.forget_descriptors(connection);
        }
        // The end of the connection may come right behind the last of them.
        self.wake(connection);
        Ok(parcel)
    }

    /// Keeps the descriptors that a peer sent before its end, so that they can still be taken. Does so for
    /// [`LEFTOVERS`] peers.
    pub(super) fn keep(&mut self, connection: u32, fd_socket: FdSocket) {
        if self.leftovers.len() == LEFTOVERS {
            // Another user's peer may connect only to leave descriptors behind. It must not displace what this user's
            // own peers have left.
            let of_others = self.leftovers.iter().position(|(_, kept)| kept.is_of_another_user());
            self.leftovers.remove(of_others.unwrap_or(0));
        }
        self.leftovers.push_back((connection, fd_socket));
        self.notify(Notice::Descriptors { connection });
    }

    /// Removes the notice of descriptors when there are no more to take.
    pub(super) fn forget_descriptors(&mut self, connection: u32) {
        self.notices
            .retain(|notice| !matches!(notice, Notice::Descriptors { connection: of } if *of == connection));
    }
}
