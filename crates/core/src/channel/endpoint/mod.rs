//! The endpoint: any number of connections. It looks at them in turn, and takes one batch of one connection at a
//! time.
//!
//! The bus thread reports connections that open and end through the [`Inbox`]; they become [`Notice`]s, between
//! batches. Invariant: only awake connections are looked at. Most of a thousand connections are asleep at any time,
//! and those cost nothing. A doorbell or a message that is sent wakes a connection. One that stays silent while
//! others talk falls asleep by itself. Rust programs and the binding call this, from one thread. Nothing here may
//! wait, except `recv` and its variants.

mod receive;
mod scheduling;
mod traffic;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::connection::Connection;
use super::fd_socket::FdSocket;
use super::notice::{CloseReason, Notice};
use super::options::{ChannelOptions, ConnectOptions, ServerOptions};
use super::registrar::{ConnectionEvent, ConnectionRegistrar, Sentinel};
use super::server::ChannelServer;
use super::stats::{ChannelStats, ConnectionStats};
use super::want::{Connecting, Pair};
use crate::bus::{Announced, Announcement, Bus};
use crate::error::{Error, Result};
use crate::handshake::{self, Acquirer, Acquisition, Ask, Done, Want};
use crate::reactor::{Inbox, Token};
use crate::record::{ChannelRecord, Fallback, GroupRecord, Record, Rung};
use crate::segment::{refused, try_pair};
use crate::sys::generation::Home;

use receive::ReceiveBuffer;

pub use receive::{Incoming, Reply};

/// An endpoint of two-way connections.
pub struct Channel {
    /// The first field, so that it is dropped and withdrawn first.
    announced: Option<Announced>,
    /// In the order of their numbers. Boxed, because they move when one in the middle ends.
    #[expect(clippy::vec_box, reason = "a connection has hundreds of bytes")]
    connections: Vec<Box<Connection>>,
    /// Numbers of the connections that are awake, in the order in which they are looked at.
    awake: Vec<u32>,
    /// Index into `awake` of the connection that is looked at next.
    next: usize,
    registrar: Arc<ConnectionRegistrar>,
    sentinel: Token,
    /// The connections that are being made, with their tokens on the bus thread.
    dialing: HashMap<u32, Token>,
    notices: VecDeque<Notice>,
    /// Descriptors that came before their connection ended, and that can still be taken.
    leftovers: VecDeque<(u32, FdSocket)>,
    /// Number of notices so far. It shows a wait that there are new ones, even if the caller has not taken the old
    /// ones.
    notice_count: u64,
    /// The bus was closed. What is connected can be used; nothing else will come.
    closed: bool,
    /// Where the rings are mapped. In a forked child they are not.
    home: Home,
    codec: Option<String>,
    past: ChannelStats,
    batches: u32,
    /// Kept only so that waiting does not allocate.
    ready: Vec<u64>,
    received: ReceiveBuffer,
    acquirer: Acquirer,
    bus: Bus,
}

impl Bus {
    /// Announces a server. Clients connect to it without a further call here, each with a [`Notice::Opened`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::channel::ServerOptions;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut options = ServerOptions::default();
    /// options.max_connections = 16;
    /// let mut server = bus.serve("clock", options)?;
    /// assert_eq!(bus.find("clock")?, server.record());
    ///
    /// // There is no client yet, so there is no request.
    /// assert_eq!(server.recv_timeout(Duration::from_millis(1))?, None);
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, and the errors of
    /// [`Bus::announce`].
    pub fn serve(&self, service: &str, options: ServerOptions) -> Result<Channel> {
        options.check()?;
        let granted = options.access.as_ref().map(|access| access.grant(self.dir().group())).transpose()?;
        let (offers, fallbacks) = on_offer(options.offers)?;
        let mut channel = Channel::new(self, options.codec.clone())?;
        let server = ChannelServer::new(
            channel.registrar.clone(),
            offers.clone(),
            options.capacity,
            options.max_connections,
            granted,
            self.handle()?,
        );
        (channel.past.offers, channel.past.fallbacks) = (offers.clone(), fallbacks);
        let record =
            ChannelRecord { capacity: options.capacity as u64, max_connections: options.max_connections };
        let announced = self.announce(Announcement {
            kind: options.kind.unwrap_or_else(|| "server".into()),
            offers,
            channel: Some(record),
            group: options.group,
            metadata: options.metadata,
            endpoints: options.endpoints,
            codec: options.codec,
            payload_schema: options.schema,
            server: Some(handshake::serve(server)),
            access: options.access,
            ..Announcement::new(service)
        })?;
        channel.announced = Some(announced);
        Ok(channel)
    }

    /// Makes an endpoint that connects to servers: see [`Channel::connect`].
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED`.
    pub fn channel(&self, options: ChannelOptions) -> Result<Channel> {
        Channel::new(self, options.codec)
    }
}

/// Which of the wanted rungs a server can offer, and why it cannot offer the others.
fn on_offer(mut offers: Vec<Rung>) -> Result<(Vec<Rung>, Vec<Fallback>)> {
    let mut fallbacks = Vec::new();
    if offers.contains(&Rung::Handshake) {
        match try_pair() {
            Ok(()) => {}
            Err(reason) if offers.contains(&Rung::Stream) && refused(&reason) => {
                fallbacks.push(Fallback::by(Rung::Handshake, &reason));
                offers.retain(|rung| *rung == Rung::Stream);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((offers, fallbacks))
}

impl Channel {
    fn new(bus: &Bus, codec: Option<String>) -> Result<Channel> {
        let registrar = ConnectionRegistrar::new(Inbox::new()?);
        let sentinel = bus.handle()?.add(Box::new(Sentinel(registrar.clone())), None);
        Ok(Channel {
            announced: None,
            connections: Vec::new(),
            awake: Vec::new(),
            next: 0,
            registrar,
            sentinel,
            dialing: HashMap::new(),
            notices: VecDeque::new(),
            leftovers: VecDeque::new(),
            notice_count: 0,
            closed: false,
            home: Home::here(),
            codec,
            past: ChannelStats::default(),
            batches: 0,
            ready: Vec::new(),
            received: ReceiveBuffer::default(),
            acquirer: Acquirer::new(bus),
            bus: bus.clone(),
        })
    }

    /// Begins to connect to a server, and returns the connection's number at once. A [`Notice::Opened`] or a
    /// [`Notice::Failed`] with that number follows. [`wait_open`](Self::wait_open) waits for it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::channel::{ChannelOptions, ConnectOptions, ServerOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("bus");
    /// # let open = || Bus::open(BusOptions { path: Some(path.clone()), ..BusOptions::default() });
    /// # let server = open()?.serve("clock", ServerOptions::default())?;
    /// # let bus = open()?;
    ///
    /// let record = bus.wait_for("clock", Some(Duration::from_secs(30)))?;
    /// let mut client = bus.channel(ChannelOptions::default())?;
    /// let connection = client.connect(&record, &ConnectOptions::default())?;
    /// client.wait_open(connection, Duration::from_secs(30))?;
    /// assert!(client.connections().any(|open| open == connection));
    /// # drop(server);
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_REFUSED` (another codec), `ERR_RINGBELL_RECORD` (no server),
    /// `ERR_RINGBELL_CLOSED`.
    pub fn connect(&mut self, record: &Arc<Record>, options: &ConnectOptions) -> Result<u32> {
        self.ensure_home()?;
        options.check()?;
        let handle = self.bus.handle()?;
        let pair = Pair {
            client_ring: options.send_capacity.unwrap_or(0) as u64,
            server_ring: options.receive_capacity.unwrap_or(0) as u64,
            as_guest: options.as_guest,
            handle: handle.clone(),
        };
        pair.check(record)?;
        let announced = record.codec.as_deref().unwrap_or("bytes");
        if let Some(expected) = self.codec.as_deref().filter(|expected| *expected != announced) {
            return Err(Error::Refused {
                reason: format!(
                    "'{}' speaks codec '{announced}', this client expects '{expected}'",
                    record.service
                ),
            });
        }
        let number = self.registrar.number();
        let ask = Ask { record: Arc::clone(record), forced: options.acquire, patience: options.timeout };
        let connecting = Connecting::new(self.registrar.clone(), number);
        let done: Done<_> = Box::new(move |result, _| connecting.done(result));
        let acquisition = Acquisition::new(self.acquirer.ladder(pair, ask), handle.clone(), done);
        let token = handle.add(acquisition, Some(Instant::now()));
        self.dialing.insert(number, token);
        Ok(number)
    }

    /// Ends a connection in good order. The peer still reads what was sent to it. What the peer sent is not read any
    /// more. A connection that is still being made is given up. No notice follows.
    pub fn disconnect(&mut self, connection: u32) {
        if self.home.is_foreign() {
            return;
        }
        if let Some(token) = self.dialing.remove(&connection)
            && let Ok(handle) = self.bus.handle()
        {
            handle.remove(token);
        }
        if let Ok(index) = self.find(connection) {
            drop(self.take(index));
        }
        self.leftovers.retain(|(of, _)| *of != connection);
        self.forget_descriptors(connection);
    }

    fn end(&mut self, index: usize, reason: CloseReason) {
        let mut connection = self.take(index);
        if let Some(fd_socket) = connection.leftovers() {
            self.keep(connection.number, fd_socket);
        }
        // A peer that broke the rules is still alive, and may go on reading. So the number would not be final.
        let delivered = if matches!(reason, CloseReason::Failed(_)) { None } else { connection.delivered() };
        self.notify(Notice::Closed { connection: connection.number, reason, delivered });
    }

    /// Removes a connection from every list, counts its totals, and frees its place for the next client.
    fn take(&mut self, index: usize) -> Box<Connection> {
        let connection = self.connections.remove(index);
        self.awake.retain(|number| *number != connection.number);
        connection.unwatch(self.registrar.inbox());
        let ConnectionStats { sent, sent_bytes, received, full, rings, .. } = connection.stats();
        self.past.sent += sent;
        self.past.sent_bytes += sent_bytes;
        self.past.received += received;
        self.past.full += full;
        self.past.rings += rings;
        connection
    }

    fn find(&self, number: u32) -> std::result::Result<usize, usize> {
        self.connections.binary_search_by_key(&number, |connection| connection.number)
    }

    #[inline]
    fn connection(&mut self, number: u32) -> Result<&mut Connection> {
        self.ensure_home()?;
        match self.find(number) {
            Ok(index) => Ok(&mut self.connections[index]),
            Err(_) => Err(Error::PeerGone { service: format!("connection {number}") }),
        }
    }

    #[inline]
    fn take_news(&mut self) -> Result<()> {
        self.ensure_home()?;
        if self.registrar.inbox().has_news() {
            self.take_events();
        }
        Ok(())
    }

    #[cold]
    fn take_events(&mut self) {
        for event in self.registrar.inbox().take() {
            match event {
                ConnectionEvent::Opened(connection) => self.opened(connection),
                ConnectionEvent::Failed(connection, error) => {
                    if self.dialing.remove(&connection).is_some() {
                        self.notify(Notice::Failed { connection, error });
                    }
                }
                ConnectionEvent::Closed => self.closed = true,
            }
        }
    }

    fn opened(&mut self, mut connection: Box<Connection>) {
        let number = connection.number;
        let wanted = connection.peer_info.record.is_none() || self.dialing.remove(&number).is_some();
        match self.find(number) {
            Err(place) if wanted => {
                let peer_info = &connection.peer_info;
                self.notify(Notice::Opened {
                    connection: number,
                    pid: peer_info.peer.pid,
                    uid: peer_info.peer.uid,
                    record: peer_info.record.clone(),
                    rung: peer_info.rung,
                    fallbacks: peer_info.fallbacks.clone(),
                });
                self.past.opened += 1;
                // Edges of its descriptors may have been taken while no connection had this number.
                connection.on_ring();
                connection.poll_socket();
                if connection.has_parcels() {
                    self.notify(Notice::Descriptors { connection: number });
                }
                self.connections.insert(place, connection);
                self.awake.push(number);
            }
            // It was given up in the meantime.
            _ => connection.unwatch(self.registrar.inbox()),
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
        self.notice_count += 1;
    }

    /// Whether there are notices that the caller has not taken yet.
    fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Takes all queued notices, in the order in which things happened.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }

    /// Takes one notice before the others.
    fn take_notice(&mut self, which: impl Fn(&Notice) -> bool) -> Option<Notice> {
        let at = self.notices.iter().position(which)?;
        self.notices.remove(at)
    }

    /// Whether a connection is being made.
    fn is_dialing(&self, connection: u32) -> bool {
        self.dialing.contains_key(&connection)
    }

    /// The numbers of the open connections.
    pub fn connections(&self) -> impl Iterator<Item = u32> + '_ {
        self.connections.iter().map(|connection| connection.number)
    }

    /// The record as it is announced now. An endpoint that only connects has none.
    pub fn record(&self) -> Option<Arc<Record>> {
        self.announced.as_ref().map(Announced::record)
    }

    /// Replaces the record's metadata in place.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RECORD` when the record gets too long, `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED` when
    /// nothing is announced.
    pub fn update(&mut self, metadata: Map<String, Value>) -> Result<()> {
        match &self.announced {
            Some(announced) => announced.update(metadata),
            None => Err(Error::Closed { what: "announcement" }),
        }
    }

    /// Replaces the role of the member that serves, in the record.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn set_group(&mut self, group: GroupRecord) -> Result<()> {
        match &self.announced {
            Some(announced) => announced.set_group(group),
            None => Err(Error::Closed { what: "announcement" }),
        }
    }

    /// Takes no new clients from now on. Those that are connected stay.
    pub fn withdraw(&mut self) {
        self.announced = None;
    }

    /// Counters, and what this endpoint knows of each connection. In a forked child it knows none.
    pub fn stats(&self) -> ChannelStats {
        let mut stats = self.past.clone();
        if !self.home.is_foreign() {
            stats.connections = self.connections.iter().map(|connection| connection.stats()).collect();
        }
        for connection in &stats.connections {
            stats.sent += connection.sent;
            stats.sent_bytes += connection.sent_bytes;
            stats.received += connection.received;
            stats.full += connection.full;
            stats.rings += connection.rings;
        }
        stats
    }

    /// Closes every connection in good order. Dropping the endpoint does the same.
    pub fn close(self) {}

    fn ensure_home(&self) -> Result<()> {
        if self.home.is_foreign() { Err(Error::Closed { what: "channel" }) } else { Ok(()) }
    }
}

impl AsFd for Channel {
    /// Readable when something happened after [`Channel::arm`]. It stays readable until [`Channel::harvest`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registrar.inbox().as_fd()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // In a forked child a lock of the inbox may be held by a thread that does not exist there. And the child must
        // not close for its parent.
        if self.home.is_foreign() {
            return;
        }
        self.announced = None;
        if let Ok(handle) = self.bus.handle() {
            for token in self.dialing.drain().map(|(_, token)| token).chain([self.sentinel]) {
                handle.remove(token);
            }
        }
        self.registrar.inbox().close();
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}
