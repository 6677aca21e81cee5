//! One end of a connection to the socket of an endpoint. It sends the datagrams of `docs/protocol.md` without any code of
//! the library. Only the calls that say so wait.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, listen, recvmsg, sendmsg, shutdown, socket,
};
use ringbell::bus::{Bus, Record};

use super::{PATIENCE, until};

pub const MAGIC: &[u8] = b"RBHS\x03\0";

/// A datagram of the handshake: its kind, and fields at their offsets.
pub fn datagram(kind: u16, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let length = match kind {
        6 => 256,
        10 => 80,
        _ => 64,
    };
    let mut bytes = vec![0; length];
    bytes[..6].copy_from_slice(MAGIC);
    bytes[6..8].copy_from_slice(&kind.to_le_bytes());
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

/// The id of a record, in the form of the datagrams.
pub fn id_of(record: &Record) -> [u8; 16] {
    u128::from_str_radix(&record.id, 16).unwrap().to_be_bytes()
}

pub struct Raw(pub OwnedFd);

impl Raw {
    /// Connects to the socket of a record.
    pub fn to(bus: &Bus, record: &Record) -> Raw {
        let mut raw = Err(Errno::EAGAIN);
        until("the backlog has room", || {
            raw = Raw::try_to(bus, record);
            !matches!(raw, Err(Errno::EAGAIN))
        });
        raw.unwrap()
    }

    /// The same without waiting: EAGAIN while the backlog is full.
    pub fn try_to(bus: &Bus, record: &Record) -> Result<Raw, Errno> {
        let raw = endpoint(SockFlag::SOCK_NONBLOCK);
        let address = UnixAddr::new(&bus.path().join(record.socket_name())).unwrap();
        connect(raw.as_raw_fd(), &address).map(|()| Raw(raw))
    }

    /// Sends, and waits for room. False if the other end accepts nothing any more.
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.send_with(bytes, &[]).is_ok()
    }

    pub fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        loop {
            match self.try_send_with(bytes, fds) {
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT),
                sent => return sent,
            }
        }
    }

    pub fn try_send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map(drop)
    }

    /// Waits for the next datagram. It is empty at the end of the connection.
    pub fn receive(&self) -> Vec<u8> {
        self.receive_with_fds().0
    }

    pub fn receive_with_fds(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        loop {
            match self.try_receive() {
                None => self.wait(PollFlags::POLLIN),
                Some(received) => return received,
            }
        }
    }

    /// `None` if there is nothing yet.
    pub fn try_receive(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let (mut bytes, mut control) = (vec![0; 128 << 10], cmsg_space!([RawFd; 64]));
        let (mut parts, flags) = ([IoSliceMut::new(&mut bytes)], MsgFlags::MSG_CMSG_CLOEXEC);
        let (length, fds) = match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EAGAIN) => return None,
            Err(Errno::ECONNRESET) => (0, Vec::new()),
            got => {
                let got = got.unwrap();
                let rights = got.cmsgs().unwrap().flat_map(|message| match message {
                    ControlMessageOwned::ScmRights(fds) => fds,
                    _ => Vec::new(),
                });
                (got.bytes, rights.map(owned).collect())
            }
        };
        bytes.truncate(length);
        Some((bytes, fds))
    }

    /// Takes everything that comes, until the other end has gone.
    pub fn until_it_ends(&self) {
        while !self.receive().is_empty() {}
    }

    fn wait(&self, what: PollFlags) {
        let patience = PATIENCE.as_millis() as u16;
        assert_eq!(poll(&mut [PollFd::new(self.as_fd(), what)], patience), Ok(1), "nothing happens");
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A listening socket on which a test answers instead of the library.
pub struct Listener(OwnedFd);

impl Listener {
    pub fn bind(path: &Path) -> Listener {
        let listener = endpoint(SockFlag::empty());
        bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        listen(&listener, Backlog::new(16).unwrap()).unwrap();
        Listener(listener)
    }

    /// Waits for the next connection; `None` when no more are accepted.
    pub fn accept(&self) -> Option<Raw> {
        match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Err(Errno::EINVAL) => None,
            accepted => Some(Raw(owned(accepted.unwrap()))),
        }
    }
}

/// Answers the connections to a socket, instead of the process that made the socket, while `act` runs.
pub fn in_the_place_of<T>(path: &Path, speak: impl Fn(&Raw) + Sync, act: impl FnOnce() -> T) -> T {
    /// Accepts no more connections, also if `act` panics.
    struct Closing<'a>(&'a Listener);
    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            shutdown(self.0.0.as_raw_fd(), Shutdown::Both).unwrap();
        }
    }
    std::fs::remove_file(path).unwrap();
    let listener = Listener::bind(path);
    std::thread::scope(|scope| {
        let _closing = Closing(&listener);
        scope.spawn(|| {
            while let Some(raw) = listener.accept() {
                speak(&raw);
            }
        });
        act()
    })
}

fn endpoint(flags: SockFlag) -> OwnedFd {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | flags, None).unwrap()
}

fn owned(raw: RawFd) -> OwnedFd {
    #[allow(unsafe_code)]
    // SAFETY: the kernel has just made this descriptor for us; no other code knows its number.
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}
