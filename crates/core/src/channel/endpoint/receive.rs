//! Receiving and calling for Rust programs: message by message; without waiting, with a deadline, or without a limit.
//!
//! Users of [`Channel`] call this; the binding drains by itself. Invariant: an [`Incoming`] borrows the channel, so
//! it is gone when the next one is received. A wait looks at the rings for a while before it sleeps; the caller sets
//! how long. It must never lose a notice, except that `wait_open` takes the failure that it reports.

use std::time::{Duration, Instant};

use super::Channel;
use crate::channel::header::{Header, Kind};
use crate::channel::notice::{Drained, Notice};
use crate::error::{Error, Result};
use crate::headers::Headers;
use crate::port::receive::{Batch, SPIN_ITERATIONS, SpinResult, data_and_headers, spin_until};

/// A received message. Its bytes were copied out of the ring, so no other process can change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Number of the connection that it came on.
    pub connection: u32,
    /// What the message is for. The peer wrote this.
    pub header: Header,
    /// What follows the header.
    pub data: &'a [u8],
    headers: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// The headers that the peer has sent with it. Not to be confused with [`header`](Self::header), which every message has.
    pub fn headers(&self) -> Headers<'a> {
        Headers::from_bytes(self.headers)
    }
}

/// The reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// Its data.
    pub data: Vec<u8>,
    /// The headers that the server has sent with it.
    pub headers: Headers<'static>,
}

/// Largest message that is received, in bytes, unless the caller sets another limit.
const MOST: usize = 64 << 20;
/// In a wait that never sleeps, doorbells and sockets are looked at once in this many looks.
const SOCKET_POLL_INTERVAL: u32 = 64;

/// What was received and not yet handed out.
pub(super) struct ReceiveBuffer {
    batch: Batch,
    connection: u32,
    /// A large message that is complete and was not handed out yet: data and headers, and how long the data is.
    whole: Option<(u32, Header, Vec<u8>, usize)>,
    /// The large message that was handed out last.
    given: Vec<u8>,
    spin: Duration,
    most: usize,
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self {
            batch: Batch::default(),
            connection: 0,
            whole: None,
            given: Vec::new(),
            most: MOST,
            spin: Duration::from_micros(50),
        }
    }
}

impl ReceiveBuffer {
    /// `None` for a message that is too short to have a header.
    fn message(&self, index: usize) -> Option<Incoming<'_>> {
        let entry = self.batch.entry(index)?;
        let (message, headers) = data_and_headers(self.batch.slab(), entry)?;
        let (header, data) = Header::decode(message)?;
        Some(Incoming { connection: self.connection, header, data, headers })
    }
}

impl Channel {
    /// Sets how long a wait looks at the rings before it sleeps. The default is 50 µs. With [`Duration::MAX`] it
    /// never sleeps.
    pub fn set_spin(&mut self, spin: Duration) {
        self.received.spin = spin;
    }

    /// Sets the size in bytes of the largest message that is received. Larger ones are dropped as they come, and the
    /// caller of a larger request gets an error. The default is 64 MiB.
    pub fn set_max_message(&mut self, bytes: usize) {
        self.received.most = bytes;
    }

    /// The next message, if there is one. Notices stay queued for [`notices`](Self::notices); they do not end a
    /// wait. A message that is too short to have a header is dropped.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn try_recv(&mut self) -> Result<Option<Incoming<'_>>> {
        if !self.peek()? {
            return Ok(None);
        }
        if let Some((connection, header, whole, length)) = self.received.whole.take() {
            self.received.given = whole;
            let (data, headers) = self.received.given.split_at(length);
            return Ok(Some(Incoming { connection, header, data, headers }));
        }
        let index = self.received.batch.next();
        self.received.batch.advance_to(index + 1);
        Ok(self.received.message(index))
    }

    /// The next message. Waits for it without a limit.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn recv(&mut self) -> Result<Incoming<'_>> {
        loop {
            self.wait_news(None)?;
            if self.peek()? {
                break;
            }
        }
        self.try_recv()?.ok_or(Error::Closed { what: "channel" })
    }

    /// The next message. Waits for it for at most `timeout`; `None` when none came in time.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Incoming<'_>>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.peek()? {
                return self.try_recv();
            }
            if !self.wait_news(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Waits until something may have happened: a message, a notice, or room. Returns at once while there is a notice
    /// that was not taken. False means that the time has run out.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        if self.has_notices() { Ok(true) } else { self.wait_news(deadline) }
    }

    /// As `wait`, but notices that were there before are no reason to return.
    fn wait_news(&mut self, deadline: Option<Instant>) -> Result<bool> {
        let before = self.notice_count;
        if self.peek()? || self.notice_count != before {
            return Ok(true);
        }
        let (begun, mut looks) = (Instant::now(), 0u32);
        let result = spin_until(self.received.spin, deadline, || {
            looks = looks.wrapping_add(1);
            // A sleeper is woken by a doorbell. A wait that never sleeps has to look at doorbells and sockets itself.
            if looks.is_multiple_of(SOCKET_POLL_INTERVAL) {
                self.sleep(Some(begun))?;
            }
            Ok(self.spin_connections(SPIN_ITERATIONS))
        })?;
        match result {
            SpinResult::Found => return Ok(true),
            SpinResult::Late => return Ok(false),
            SpinResult::Enough => {
                if self.arm_connections() {
                    self.sleep(deadline)?;
                }
            }
        }
        Ok(self.pending() || deadline.is_none_or(|deadline| Instant::now() < deadline))
    }

    /// Waits until this connection, which [`connect`](Self::connect) began, is open.
    ///
    /// # Errors
    ///
    /// The reason why it could not be made; `ERR_RINGBELL_TIMEOUT`; `ERR_RINGBELL_PEER_GONE` when it was open and has
    /// ended.
    pub fn wait_open(&mut self, connection: u32, timeout: Duration) -> Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            self.take_news()?;
            if self.connections().any(|open| open == connection) {
                return Ok(());
            }
            if let Some(error) = self.take_failure(connection) {
                return Err(error);
            }
            if !self.is_dialing(connection) {
                // It was open, and has ended since.
                return Err(Error::PeerGone { service: format!("connection {connection}") });
            }
            if !self.wait_news(deadline)? {
                let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                return Err(Error::Timeout { what: format!("connection {connection}"), milliseconds });
            }
        }
    }

    /// Sends a message of any size, and waits while there is no room. What comes in meanwhile stays in its ring.
    /// False means that the time has run out; the rest of a large message is not sent then, and the peer drops what
    /// it has of it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_whole(
        &mut self,
        connection: u32,
        header: Header,
        data: &[u8],
        deadline: Option<Instant>,
    ) -> Result<bool> {
        self.send_whole_with(connection, header, data, &Headers::new(), deadline)
    }

    /// As [`send_whole`](Self::send_whole), with headers. A server sends those of a reply in this way.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_whole_with(
        &mut self,
        connection: u32,
        header: Header,
        data: &[u8],
        headers: &Headers<'_>,
        deadline: Option<Instant>,
    ) -> Result<bool> {
        let size = data.len() + headers.as_bytes().len();
        let large = size > self.max_message(connection)?;
        let mut done = 0;
        loop {
            let sent = if large {
                done = self.send_large_with(connection, header, data, headers, done)?;
                done == size
            } else {
                self.send_with(connection, header, data, headers)?
            };
            if sent {
                return Ok(true);
            }
            if self.arm_room(connection, size - done) {
                self.sleep(deadline)?;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                if large {
                    self.abandon_large(connection)?;
                }
                return Ok(false);
            }
        }
    }

    /// Sends a request and waits for its reply. There can be one call at a time.
    ///
    /// Every other message that comes meanwhile is dropped, on any connection: requests of the other side, plain
    /// messages, replies to other ids. Notices are kept, and so are descriptors. A late reply to this call is dropped by the next
    /// call, so take a new `id` for each. A program that wants all of these sends and receives by itself.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// # use ringbell::channel::{ChannelOptions, ConnectOptions, Header, Kind, ServerOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("bus");
    /// # let open = || Bus::open(BusOptions { path: Some(path.clone()), ..BusOptions::default() });
    /// # let mut server = open()?.serve("upper", ServerOptions::default())?;
    /// # let serving = std::thread::spawn(move || -> ringbell::Result<()> {
    /// #     let request = server.recv()?;
    /// #     let (connection, id) = (request.connection, request.header.id);
    /// #     let reply = request.data.to_ascii_uppercase();
    /// #     server.send_whole(connection, Header::new(Kind::Reply, id), &reply, None).map(drop)
    /// # });
    /// # let bus = open()?;
    /// let patience = Duration::from_secs(30);
    /// let record = bus.wait_for("upper", Some(patience))?;
    /// let mut client = bus.channel(ChannelOptions::default())?;
    /// let connection = client.connect(&record, &ConnectOptions::default())?;
    /// client.wait_open(connection, patience)?;
    /// assert_eq!(client.call(connection, 1, b"hello", patience)?, b"HELLO");
    /// # serving.join().unwrap()?;
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_TIMEOUT`. `ERR_RINGBELL_PEER_GONE` when the connection ends before the reply has come.
    /// `ERR_RINGBELL_REFUSED` with the server's text when the request failed. The others as [`send`](Self::send).
    pub fn call(&mut self, connection: u32, id: u64, request: &[u8], timeout: Duration) -> Result<Vec<u8>> {
        self.call_with(connection, id, request, &Headers::new(), timeout).map(|reply| reply.data)
    }

    /// As [`call`](Self::call), with headers, and with those of the reply.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_with(
        &mut self,
        connection: u32,
        id: u64,
        request: &[u8],
        headers: &Headers<'_>,
        timeout: Duration,
    ) -> Result<Reply> {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let late = || Error::Timeout { what: "a reply".into(), milliseconds };
        let deadline = Instant::now().checked_add(timeout);
        let aux = u32::try_from(milliseconds.max(1)).unwrap_or(0);
        let header = Header { aux, ..Header::new(Kind::Request, id) };
        if !self.send_whole_with(connection, header, request, headers, deadline)? {
            return Err(late());
        }
        loop {
            while let Some(incoming) = self.try_recv()? {
                let ours = incoming.connection == connection && incoming.header.id == id;
                if ours && incoming.header.kind == Kind::Reply as u8 {
                    let headers = incoming.headers().into_owned();
                    return Ok(Reply { data: incoming.data.to_vec(), headers });
                }
                if ours && incoming.header.kind == Kind::Error as u8 {
                    return Err(Error::Refused {
                        reason: String::from_utf8_lossy(incoming.data).into_owned(),
                    });
                }
            }
            if !self.connections().any(|open| open == connection) {
                return Err(Error::PeerGone { service: format!("connection {connection}") });
            }
            if !self.wait_news(deadline)? {
                return Err(late());
            }
        }
    }

    /// Whether a message can be handed out. Messages that are too short to have a header, or too large, are dropped on the
    /// way. Requests that the program does not see are refused.
    fn peek(&mut self) -> Result<bool> {
        loop {
            if self.received.whole.is_some() {
                return Ok(true);
            }
            if !self.received.batch.has_next() && !self.fill()? {
                return Ok(false);
            }
            if self.received.whole.is_some() {
                return Ok(true);
            }
            let next = self.received.batch.next();
            let found = self.received.message(next).map(|incoming| (incoming.header, incoming.data.len()));
            let unseen = found.is_none_or(|(header, bytes)| self.is_unseen(header, bytes));
            if !unseen {
                return Ok(true);
            }
            self.received.batch.advance_to(next + 1);
            if let Some((header, bytes)) = found {
                self.refuse(self.received.connection, header, bytes);
            }
        }
    }

    /// Whether the program does not get this message.
    fn is_unseen(&self, header: Header, bytes: usize) -> bool {
        header.is_inquiry() || bytes > self.received.most
    }

    /// Answers a request in place of the program, which does not see it, so that its caller does not wait in vain.
    /// Where there is no room for the refusal, or the caller is gone, nothing is sent. Other kinds have no answer.
    fn refuse(&mut self, connection: u32, request: Header, bytes: usize) {
        if request.kind != Kind::Request as u8 {
            return;
        }
        let (code, message) = if request.is_inquiry() {
            ("ERR_RINGBELL_NOT_FOUND", "This server gives no counters.".to_owned())
        } else {
            let error = Error::MessageTooLarge { size: bytes, limit: self.received.most };
            (error.code(), error.to_string())
        };
        let told = serde_json::json!({ "code": code, "name": "RingbellError", "message": message });
        _ = self.send(connection, Header::new(Kind::Error, request.id), told.to_string().as_bytes());
    }

    fn take_failure(&mut self, connection: u32) -> Option<Error> {
        let failed =
            |notice: &Notice| matches!(notice, Notice::Failed { connection: of, .. } if *of == connection);
        match self.take_notice(failed) {
            Some(Notice::Failed { error, .. }) => Some(error),
            _ => None,
        }
    }

    /// Takes the next batch into the slab. False means that there is none.
    fn fill(&mut self) -> Result<bool> {
        let mut buffers = self.received.batch.begin();
        let drained = loop {
            let drained =
                self.take_news().and_then(|()| self.next_messages(&mut buffers.slab, 0, &mut buffers.table));
            match drained {
                Ok(Drained::NeedSlab(bytes)) => buffers.grow(bytes),
                other => break other,
            }
        };
        let count = if let Ok(Drained::Batch { count, .. }) = drained { count } else { 0 };
        self.received.batch.end(buffers, count);
        match drained? {
            Drained::Large { connection, header, bytes, .. } if self.is_unseen(header, bytes) => {
                self.skip_large(connection)?;
                self.refuse(connection, header, bytes);
                Ok(false)
            }
            Drained::Large { connection, .. } => {
                let whole = self.collect_large(connection)?;
                self.received.whole = whole.map(|(header, data, length)| (connection, header, data, length));
                Ok(self.received.whole.is_some())
            }
            Drained::Batch { connection, .. } => {
                self.received.connection = connection;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
