//! The endpoint: any number of connections, looked at in turn, one batch of one connection at a time.
//!
//! Connections that open and end arrive through the [`Inbox`] as [`Notice`]s, between batches. Most of a thousand connections
//! are asleep at any time, and those cost nothing: only the awake ones are looked at, a doorbell or a message that is sent
//! wakes one, and one that stays silent while others talk dozes off by itself. Nothing here waits, but `recv` and its kin.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::{Entry, Fault, Read};
use serde_json::{Map, Value};

use super::admission::{Arrival, Offer, Reception, Sentinel};
use super::dial::{Dial, Wish};
use super::header::Header;
use super::link::{Link, Progress, rang};
use super::mailbox::Mailbox;
use super::notice::{CloseReason, Drained, Notice};
use super::options::{ChannelOptions, ConnectOptions, ServerOptions};
use super::parcel::Parcel;
use super::receive::Received;
use super::stats::{ChannelStats, ConnectionStats};
use crate::acquire::{Acquirer, Rung, StepDown};
use crate::bus::{Announced, Announcement, Bus, ChannelRecord, Record, Token};
use crate::error::{Error, Result};
use crate::inbox::{Inbox, NEWS};
use crate::segment::{refused, try_pair};
use crate::sys::generation::Home;

/// Looks in a row that may find nothing before a connection dozes off while others are talking.
const IDLE_LOOKS: u32 = 256;
/// Turns between two looks at doorbells and sockets, while the endpoint is too busy to sleep.
const BUSY: u32 = 64;
/// Ended connections of which what came over the socket is kept until somebody takes it.
const LEFTOVERS: usize = 64;

/// An endpoint of two-way connections.
pub struct Channel {
    /// First, so that it is withdrawn first.
    announced: Option<Announced>,
    /// By number. Boxed, because they move when one in the middle ends.
    #[expect(clippy::vec_box, reason = "a connection has hundreds of bytes")]
    links: Vec<Box<Link>>,
    /// Numbers of those that are awake, in the order in which they are looked at.
    awake: Vec<u32>,
    /// Index into `awake` of whose turn it is.
    turn: usize,
    reception: Arc<Reception>,
    sentinel: Token,
    /// What is being connected, on the bus thread.
    dialing: HashMap<u32, Token>,
    notices: VecDeque<Notice>,
    /// What ended connections have left to be taken.
    leftovers: VecDeque<(u32, Mailbox)>,
    /// Notices so far, so that a wait knows of new ones though nobody takes them.
    pub(super) told: u64,
    /// The bus was closed: what is connected can be used, nothing else will come.
    closed: bool,
    /// Where the rings are mapped: in a forked child they are not.
    home: Home,
    codec: Option<String>,
    past: ChannelStats,
    batches: u32,
    /// Kept only so that waiting allocates nothing.
    ready: Vec<u64>,
    pub(super) received: Received,
    acquirer: Acquirer,
    bus: Bus,
}

impl Bus {
    /// Announces a server; clients connect to it by themselves, each with a [`Notice::Opened`].
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, and what announcing can answer.
    pub fn serve(&self, service: &str, options: ServerOptions) -> Result<Channel> {
        options.check()?;
        let granted = options.access.as_ref().map(|access| access.grant(self.dir().group())).transpose()?;
        let (offers, step_downs) = on_offer(options.offers)?;
        let mut channel = Channel::new(self, options.codec.clone())?;
        let offer =
            Offer::new(offers.clone(), options.capacity, options.max_connections, granted, self.handle()?);
        (channel.past.offers, channel.past.step_downs) = (offers.clone(), step_downs);
        let record =
            ChannelRecord { capacity: options.capacity as u64, max_connections: options.max_connections };
        let announced = self.announce(Announcement {
            kind: options.kind.unwrap_or_else(|| "server".into()),
            offers,
            channel: Some(record),
            metadata: options.metadata,
            endpoints: options.endpoints,
            codec: options.codec,
            payload_schema: options.schema,
            server: Some(channel.reception.clone().serve(offer)),
            access: options.access,
            ..Announcement::new(service)
        })?;
        channel.announced = Some(announced);
        Ok(channel)
    }

    /// An endpoint that connects to servers: [`Channel::connect`].
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED`.
    pub fn channel(&self, options: ChannelOptions) -> Result<Channel> {
        Channel::new(self, options.codec)
    }
}

/// What a server can offer of what it is to, and why not the rest.
fn on_offer(mut offers: Vec<Rung>) -> Result<(Vec<Rung>, Vec<StepDown>)> {
    let mut step_downs = Vec::new();
    if offers.contains(&Rung::Handshake) {
        match try_pair() {
            Ok(()) => {}
            Err(reason) if offers.contains(&Rung::Stream) && refused(&reason) => {
                step_downs.push(StepDown::by(Rung::Handshake, &reason));
                offers.retain(|rung| *rung == Rung::Stream);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((offers, step_downs))
}

impl Channel {
    fn new(bus: &Bus, codec: Option<String>) -> Result<Channel> {
        let reception = Reception::new(Inbox::new()?);
        let sentinel = bus.handle()?.add(Box::new(Sentinel(reception.clone())), None);
        Ok(Channel {
            announced: None,
            links: Vec::new(),
            awake: Vec::new(),
            turn: 0,
            reception,
            sentinel,
            dialing: HashMap::new(),
            notices: VecDeque::new(),
            leftovers: VecDeque::new(),
            told: 0,
            closed: false,
            home: Home::here(),
            codec,
            past: ChannelStats::default(),
            batches: 0,
            ready: Vec::new(),
            received: Received::default(),
            acquirer: Acquirer::new(bus)?,
            bus: bus.clone(),
        })
    }

    /// Begins to connect to a server. [`Notice::Opened`] or [`Notice::Failed`] follows, with the number that this returns.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_REFUSED` (another codec), `ERR_RINGBELL_RECORD` (no server),
    /// `ERR_RINGBELL_CLOSED`.
    pub fn connect(&mut self, record: &Arc<Record>, options: &ConnectOptions) -> Result<u32> {
        self.ensure_home()?;
        options.check()?;
        if record.channel.is_none() {
            return Err(Error::Record {
                file: record.file_name(),
                reason: "it announces no server, so there is nothing to connect to".into(),
            });
        }
        let announced = record.codec.as_deref().unwrap_or("bytes");
        if let Some(expected) = self.codec.as_deref().filter(|expected| *expected != announced) {
            return Err(Error::Refused {
                reason: format!(
                    "'{}' speaks codec '{announced}', this client expects '{expected}'",
                    record.service
                ),
            });
        }
        let handle = self.bus.handle()?;
        let number = self.reception.number();
        let wish = Wish {
            number,
            client_ring: options.send_capacity.unwrap_or(0) as u64,
            server_ring: options.receive_capacity.unwrap_or(0) as u64,
            forced: options.acquire.or(self.acquirer.forced()),
            timeout: options.timeout,
            as_guest: options.as_guest,
            handle: handle.clone(),
        };
        let dial = Dial::new(self.acquirer.directory().clone(), record.clone(), wish, self.reception.clone());
        let token = handle.add(Box::new(dial), Some(Instant::now()));
        self.dialing.insert(number, token);
        Ok(number)
    }

    /// Ends a connection in good order: what was sent is still read by the peer, what it sent is not read any more. One that
    /// is being connected is given up. Nothing is told of it afterwards.
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

    /// There are none to be told of any more.
    fn forget_descriptors(&mut self, connection: u32) {
        self.notices
            .retain(|notice| !matches!(notice, Notice::Descriptors { connection: of } if *of == connection));
    }

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

    /// Goes on with the large message that [`Drained::Large`] told of: copies what has come of its data to `target`, which
    /// has exactly as many bytes, and answers how many are there by now. `None`: its sender gave it up, or it is not there.
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

    /// Drops the large message that [`Drained::Large`] told of, and what comes of it.
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
            let mailbox = &mut self.leftovers[at].1;
            let parcel = mailbox.take();
            if !mailbox.has_parcels() {
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
    fn keep(&mut self, connection: u32, mailbox: Mailbox) {
        if self.leftovers.len() == LEFTOVERS {
            // Who only comes to leave something behind is not to cost one's own user what is kept of it.
            let of_others = self.leftovers.iter().position(|(_, kept)| kept.is_of_another_user());
            self.leftovers.remove(of_others.unwrap_or(0));
        }
        self.leftovers.push_back((connection, mailbox));
        self.tell(Notice::Descriptors { connection });
    }

    /// Copies one batch of one connection to `slab[fill..]`; `table` says where its messages lie. Each begins with a
    /// [`Header`].
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` when the bus was closed and everything was read, and in a forked child. What befalls a
    /// connection is a [`Notice`], the others go on.
    #[inline]
    pub fn drain(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Drained> {
        self.take_news()?;
        if !self.notices.is_empty() {
            return Ok(Drained::Notice);
        }
        self.next_messages(slab, fill, table)
    }

    #[inline]
    pub(super) fn next_messages(
        &mut self,
        slab: &mut [u8],
        fill: usize,
        table: &mut [Entry],
    ) -> Result<Drained> {
        self.look_at_sleepers()?;
        let mut looked = 0;
        while looked < self.awake.len() {
            let at = if self.turn < self.awake.len() { self.turn } else { 0 };
            let Ok(index) = self.find(self.awake[at]) else {
                self.awake.swap_remove(at);
                continue;
            };
            let link = &mut self.links[index];
            if let Some(error) = link.fault().cloned() {
                self.end(index, CloseReason::Failed(error));
                continue;
            }
            match link.read(slab, fill, table) {
                Ok(Read::Messages { count, bytes, .. }) => {
                    link.idle = 0;
                    self.turn = at + 1;
                    return Ok(Drained::Batch { connection: link.number, count, bytes });
                }
                Ok(Read::Needs(bytes)) => {
                    self.turn = at;
                    return Ok(Drained::NeedSlab(bytes));
                }
                Ok(Read::Large(large)) => {
                    let connection = link.number;
                    match link.arriving(large) {
                        Ok(Some((header, bytes))) => {
                            link.idle = 0;
                            self.turn = at + 1;
                            return Ok(Drained::Large { connection, header, bytes });
                        }
                        Ok(None) => {
                            looked += 1;
                            self.turn = at + 1;
                        }
                        Err(fault) => self.end(index, CloseReason::Failed(fault_error(fault))),
                    }
                }
                Ok(Read::Empty) if link.over() => {
                    let reason = if link.closed() { CloseReason::Closed } else { CloseReason::Died };
                    self.end(index, reason);
                }
                Ok(Read::Empty) if link.stuck() => {
                    let error = Error::CorruptPeer { what: "what it left behind cannot be read".into() };
                    self.end(index, CloseReason::Failed(error));
                }
                Ok(Read::Empty) => {
                    looked += 1;
                    self.turn = at + 1;
                    link.idle += 1;
                    if link.idle > IDLE_LOOKS && self.awake.len() > 1 && link.arm(self.reception.inbox()) {
                        link.awake = false;
                        self.awake.swap_remove(at);
                        looked -= 1;
                    }
                }
                Err(fault) => self.end(index, CloseReason::Failed(fault_error(fault))),
            }
        }
        match self.notices.is_empty() {
            false => Ok(Drained::Notice),
            true if self.closed && self.links.is_empty() => Err(Error::Closed { what: "bus" }),
            true => Ok(Drained::Empty),
        }
    }

    /// Whoever sleeps rings, and a peer that dies ends its socket: that is heard by whoever sleeps on `as_fd`. An endpoint that
    /// never does, because there is always something to do or to look for, looks now and then.
    fn look_at_sleepers(&mut self) -> Result<()> {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(BUSY) {
            self.take_rings(Some(Instant::now()))?;
        }
        Ok(())
    }

    fn end(&mut self, index: usize, reason: CloseReason) {
        let mut link = self.take(index);
        if let Some(mailbox) = link.leftovers() {
            self.keep(link.number, mailbox);
        }
        // A peer that broke the rules lives, and may go on reading.
        let delivered = if matches!(reason, CloseReason::Failed(_)) { None } else { link.delivered() };
        self.tell(Notice::Closed { connection: link.number, reason, delivered });
    }

    /// Takes a connection out of everything, and gives its place to the next client.
    fn take(&mut self, index: usize) -> Box<Link> {
        let link = self.links.remove(index);
        self.awake.retain(|number| *number != link.number);
        link.unwatch(self.reception.inbox());
        let ConnectionStats { sent, sent_bytes, received, full, rings, .. } = link.stats();
        self.past.sent += sent;
        self.past.sent_bytes += sent_bytes;
        self.past.received += received;
        self.past.full += full;
        self.past.rings += rings;
        link
    }

    fn find(&self, connection: u32) -> std::result::Result<usize, usize> {
        self.links.binary_search_by_key(&connection, |link| link.number)
    }

    #[inline]
    fn link(&mut self, connection: u32) -> Result<&mut Link> {
        self.ensure_home()?;
        match self.find(connection) {
            Ok(index) => Ok(&mut self.links[index]),
            Err(_) => Err(Error::PeerGone { service: format!("connection {connection}") }),
        }
    }

    /// Has a connection looked at from now on.
    #[inline]
    fn wake(&mut self, connection: u32) {
        if let Ok(index) = self.find(connection) {
            let link = &mut self.links[index];
            link.idle = 0;
            if !link.awake {
                link.awake = true;
                self.awake.push(connection);
            }
        }
    }

    #[inline]
    pub(super) fn take_news(&mut self) -> Result<()> {
        self.ensure_home()?;
        if self.reception.inbox().has_news() {
            self.take_arrivals();
        }
        Ok(())
    }

    #[cold]
    fn take_arrivals(&mut self) {
        for arrival in self.reception.inbox().take() {
            match arrival {
                Arrival::Opened(link) => self.opened(link),
                Arrival::Failed(connection, error) => {
                    if self.dialing.remove(&connection).is_some() {
                        self.tell(Notice::Failed { connection, error });
                    }
                }
                Arrival::Closed => self.closed = true,
            }
        }
    }

    fn opened(&mut self, mut link: Box<Link>) {
        let number = link.number;
        let wanted = link.meeting.record.is_none() || self.dialing.remove(&number).is_some();
        match self.find(number) {
            Err(place) if wanted => {
                let meeting = &link.meeting;
                self.tell(Notice::Opened {
                    connection: number,
                    pid: meeting.peer.pid,
                    uid: meeting.peer.uid,
                    record: meeting.record.clone(),
                    rung: meeting.rung,
                    step_downs: meeting.step_downs.clone(),
                });
                self.past.opened += 1;
                // Edges may have been taken when nobody knew its number.
                link.hear();
                link.look_at_socket();
                if link.has_parcels() {
                    self.tell(Notice::Descriptors { connection: number });
                }
                self.links.insert(place, link);
                self.awake.push(number);
            }
            // Given up meanwhile.
            _ => link.unwatch(self.reception.inbox()),
        }
    }

    fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
        self.told += 1;
    }

    /// Whether there is something that nobody has asked for yet.
    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// What is to be told, in the order in which it happened.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }

    /// Takes one notice out of turn.
    pub(super) fn take_notice(&mut self, which: impl Fn(&Notice) -> bool) -> Option<Notice> {
        let at = self.notices.iter().position(which)?;
        self.notices.remove(at)
    }

    /// Looks for something to do, about `turns` times, with pause instructions in between.
    pub fn spin(&mut self, turns: u32) -> bool {
        !self.notices.is_empty() || self.spin_links(turns)
    }

    pub(super) fn spin_links(&mut self, turns: u32) -> bool {
        if self.home.is_foreign() || self.reception.inbox().has_news() {
            return true;
        }
        if let [only] = self.awake[..] {
            return self.find(only).is_ok_and(|index| self.links[index].spin(turns));
        }
        for _ in 0..turns / self.awake.len().max(1) as u32 {
            for at in 0..self.awake.len() {
                if self.find(self.awake[at]).is_ok_and(|index| self.links[index].pending()) {
                    return true;
                }
            }
            std::hint::spin_loop();
        }
        self.reception.inbox().has_news()
    }

    /// Announces to every awake peer that this endpoint is about to sleep. True: there is nothing to do, sleep on `as_fd`
    /// and call [`harvest`](Self::harvest) when it is readable. False: look again.
    pub fn arm(&mut self) -> bool {
        self.arm_links() && self.notices.is_empty()
    }

    /// As `arm`; notices that nobody has asked for don't keep it from sleeping.
    pub(super) fn arm_links(&mut self) -> bool {
        if self.home.is_foreign() {
            return false;
        }
        let (links, inbox) = (&mut self.links, self.reception.inbox());
        self.awake.retain(|number| {
            let Ok(index) = links.binary_search_by_key(number, |link| link.number) else { return false };
            let link = &mut links[index];
            link.awake = !link.arm(inbox);
            link.awake
        });
        self.awake.is_empty() && !self.reception.inbox().has_news() && !(self.closed && self.links.is_empty())
    }

    /// Takes what woke the sleeper on `as_fd`, so that it can sleep again, and counts the wake-up. False:
    /// there was nothing.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child; else none in practice: what `epoll_wait` can answer.
    pub fn harvest(&mut self) -> Result<bool> {
        self.sleep(Some(Instant::now()))?;
        Ok(!self.ready.is_empty())
    }

    /// Sleeps until something happens, or until `deadline`.
    pub(super) fn sleep(&mut self, deadline: Option<Instant>) -> Result<()> {
        self.ensure_home()?;
        self.take_rings(deadline)?;
        self.past.wakeups += u64::from(!self.ready.is_empty());
        Ok(())
    }

    fn take_rings(&mut self, deadline: Option<Instant>) -> Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        let slept = self.reception.inbox().sleep(deadline, &mut ready);
        for number in ready.iter().filter(|number| **number != NEWS) {
            let (connection, socket) = rang(*number);
            if let Ok(index) = self.find(connection) {
                let link = &mut self.links[index];
                if !socket {
                    link.hear();
                } else {
                    link.look_at_socket();
                    if link.has_parcels() {
                        self.tell(Notice::Descriptors { connection });
                    }
                }
            }
            self.wake(connection);
        }
        self.ready = ready;
        slept
    }

    /// Whether there may be messages, or news of connections.
    pub(super) fn pending(&mut self) -> bool {
        self.home.is_foreign()
            || self.reception.inbox().has_news()
            || self.awake.iter().any(|number| {
                self.links
                    .binary_search_by_key(number, |link| link.number)
                    .is_ok_and(|index| self.links[index].pending())
            })
    }

    /// Whether a connection is being made.
    pub(super) fn is_dialing(&self, connection: u32) -> bool {
        self.dialing.contains_key(&connection)
    }

    /// The numbers of the open connections.
    pub fn connections(&self) -> impl Iterator<Item = u32> + '_ {
        self.links.iter().map(|link| link.number)
    }

    /// The record as it is announced now; none of an endpoint that connects.
    pub fn record(&self) -> Option<Arc<Record>> {
        self.announced.as_ref().map(Announced::record)
    }

    /// Replaces the record's metadata, in place.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RECORD` when it gets too long, `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED` where nothing is announced.
    pub fn update(&mut self, metadata: Map<String, Value>) -> Result<()> {
        match &self.announced {
            Some(announced) => announced.update(metadata),
            None => Err(Error::Closed { what: "announcement" }),
        }
    }

    /// Takes no new clients any more; those that are connected stay.
    pub fn withdraw(&mut self) {
        self.announced = None;
    }

    /// Counters, and what it knows of each connection; in a forked child of none.
    pub fn stats(&self) -> ChannelStats {
        let mut stats = self.past.clone();
        if !self.home.is_foreign() {
            stats.connections = self.links.iter().map(|link| link.stats()).collect();
        }
        for link in &stats.connections {
            stats.sent += link.sent;
            stats.sent_bytes += link.sent_bytes;
            stats.received += link.received;
            stats.full += link.full;
            stats.rings += link.rings;
        }
        stats
    }

    /// Closes every connection in good order; the same as dropping it.
    pub fn close(self) {}

    fn ensure_home(&self) -> Result<()> {
        if self.home.is_foreign() { Err(Error::Closed { what: "channel" }) } else { Ok(()) }
    }
}

fn fault_error(fault: Fault) -> Error {
    match fault {
        Fault::Corrupt(what) => Error::CorruptPeer { what: what.into() },
        Fault::Expelled => Error::Refused { reason: "the peer took this side's cursor for invalid".into() },
        other => Error::CorruptPeer { what: format!("{other:?}") },
    }
}

impl AsFd for Channel {
    /// Readable when something happened after [`Channel::arm`]. Level-triggered until [`Channel::harvest`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reception.inbox().as_fd()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // In a forked child nobody may be left to unlock it, and nothing in it is the child's to close.
        if self.home.is_foreign() {
            return;
        }
        self.announced = None;
        if let Ok(handle) = self.bus.handle() {
            for token in self.dialing.drain().map(|(_, token)| token).chain([self.sentinel]) {
                handle.remove(token);
            }
        }
        self.reception.inbox().close();
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("connections", &self.links.len()).finish_non_exhaustive()
    }
}
