//! SCM_RIGHTS: descriptors that travel with a datagram over a Unix socket.
//!
//! Invariants: a received descriptor is close-on-exec and owned from the first moment. A truncated datagram
//! or control message (MSG_TRUNC, MSG_CTRUNC) delivers nothing, and its descriptors are closed. A receiver
//! that is out of descriptors gets no EMFILE, only MSG_CTRUNC. Never MSG_PEEK: each peek installs one
//! more set. `receive_plain` has no control buffer, so that a hostile client cannot fill our table. Called by the
//! handshake and by channels.

#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Most descriptors in one datagram of this library.
pub(crate) const MAX_FDS: usize = 16;

/// Space for one SCM_RIGHTS message of `MAX_FDS`, aligned for a `cmsghdr`.
const CONTROL_WORDS: usize = 12;

/// A datagram with its descriptors.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes of the datagram; 0 at the end of the connection.
    pub(crate) length: usize,
    /// The descriptors, in the sender's order.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why nothing was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    /// The call failed; EAGAIN if nothing has arrived.
    Os(Errno),
    /// The datagram is longer than the buffer.
    Truncated,
    /// Descriptors were lost: more were sent than agreed, or a security module removed some. If this process
    /// had no room for them, the error is [`ReceiveError::Os`] with EMFILE.
    DescriptorsLost,
}

/// # Whether a number that a caller passed is an open descriptor
///
/// References: fcntl(2) F_GETFD. Errors: none; EBADF is the answer.
pub(crate) fn is_open(fd: BorrowedFd<'_>) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).is_ok()
}

/// Sends one datagram with at most [`MAX_FDS`] descriptors, without waiting and without SIGPIPE.
///
/// # References
/// `sendmsg(2)`, `unix(7)` SCM_RIGHTS.
///
/// # Errors
/// EAGAIN if the peer does not read, EPIPE and ECONNRESET if it has gone, ETOOMANYREFS if this
/// user has too many descriptors in flight, EPERM if the receiver refuses rights (Linux 6.16).
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    if raw.len() > MAX_FDS {
        return Err(Errno::EINVAL);
    }
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
            Err(Errno::EINTR) => {}
            Ok(sent) if sent != bytes.len() => return Err(Errno::EMSGSIZE),
            other => return other.map(drop),
        }
    }
}

/// Receives one datagram with at most [`MAX_FDS`] descriptors, without waiting.
///
/// # References
/// `recvmsg(2)` with MSG_CMSG_CLOEXEC, `cmsg(3)`, `unix(7)`.
///
/// # Errors
/// See [`ReceiveError`]. Descriptors that came with a failure are closed.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, ReceiveError> {
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: CMSG_LEN only computes.
    let room = unsafe { libc::CMSG_LEN((MAX_FDS * size_of::<RawFd>()) as libc::c_uint) } as usize;
    debug_assert!(room <= size_of::<[u64; CONTROL_WORDS]>());
    let (length, flags, fds) = call(socket.as_fd(), buffer, &mut control, room)?;
    if flags & libc::MSG_CTRUNC != 0 || fds.len() > MAX_FDS {
        // Ask while the received descriptors are still open, because closing them would make room.
        return Err(match socket.as_fd().try_clone_to_owned().map_err(|error| error.raw_os_error()) {
            Err(Some(libc::EMFILE)) => ReceiveError::Os(Errno::EMFILE),
            _ => ReceiveError::DescriptorsLost,
        });
    }
    if flags & libc::MSG_TRUNC != 0 {
        return Err(ReceiveError::Truncated);
    }
    Ok(Received { length, fds })
}

/// Receives one datagram. The kernel drops any descriptors that came with it.
///
/// # References
/// `recvmsg(2)`: without a control buffer, rights are discarded and MSG_CTRUNC is set.
///
/// # Errors
/// [`ReceiveError::DescriptorsLost`] if descriptors had been sent, which is a breach of the protocol.
pub(crate) fn receive_plain(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, ReceiveError> {
    whole(call(socket.as_fd(), buffer, &mut [0u64; CONTROL_WORDS], 0)?)
}

/// The length of a datagram that came whole and without descriptors.
fn whole((length, flags, _none): Raw) -> Result<usize, ReceiveError> {
    if flags & libc::MSG_CTRUNC != 0 {
        return Err(ReceiveError::DescriptorsLost);
    }
    if flags & libc::MSG_TRUNC != 0 {
        return Err(ReceiveError::Truncated);
    }
    Ok(length)
}

/// Sends one datagram of `head` and then `body`, without waiting and without SIGPIPE.
///
/// # References
/// `sendmsg(2)`.
///
/// # Errors
/// EAGAIN if the peer does not read, EPIPE and ECONNRESET if it has gone.
pub(crate) fn send_parts(socket: impl AsFd, head: &[u8], body: &[u8]) -> nix::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let parts = [IoSlice::new(head), IoSlice::new(body)];
    loop {
        match sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, &[], flags, None) {
            Err(Errno::EINTR) => {}
            Ok(sent) if sent != head.len() + body.len() => return Err(Errno::EMSGSIZE),
            other => return other.map(drop),
        }
    }
}

/// As [`receive_plain`], the first bytes into `head` and the rest into `body`. Returns the length of the whole
/// datagram.
///
/// # References
/// `recvmsg(2)`, as for [`receive_plain`].
///
/// # Errors
/// As [`receive_plain`].
pub(crate) fn receive_parts(
    socket: impl AsFd,
    head: &mut [u8],
    body: &mut [u8],
) -> Result<usize, ReceiveError> {
    let slices = &mut [IoSliceMut::new(head), IoSliceMut::new(body)];
    whole(call_parts(socket.as_fd(), slices, &mut [0u64; CONTROL_WORDS], 0)?)
}

type Raw = (usize, libc::c_int, Vec<OwnedFd>);

fn call(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &mut [u64; CONTROL_WORDS],
    room: usize,
) -> Result<Raw, ReceiveError> {
    call_parts(socket, &mut [IoSliceMut::new(buffer)], control, room)
}

fn call_parts(
    socket: BorrowedFd<'_>,
    slices: &mut [IoSliceMut<'_>],
    control: &mut [u64; CONTROL_WORDS],
    room: usize,
) -> Result<Raw, ReceiveError> {
    // SAFETY: a msghdr of zeroes is valid: it has no name, no vector, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = slices.as_mut_ptr().cast();
    header.msg_iovlen = slices.len() as _;
    if room > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = room as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: `header` points at vectors (IoSliceMut has iovec's layout) and at `room` bytes of
        // `control` (or none), all of which outlive the call.
        match Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) }) {
            Ok(length) => break length as usize,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(ReceiveError::Os(errno)),
        }
    };
    Ok((length, header.msg_flags, collect(&header)))
}

fn collect(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    if header.msg_control.is_null() {
        return fds;
    }
    // SAFETY: `header` is unchanged since the kernel wrote it: msg_controllen bytes of well-formed control messages.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header inside the control buffer.
        let head = unsafe { &*message };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN(0) only computes the offset of the data.
            let bytes = (head.cmsg_len as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: index is inside the data of this message. The kernel has installed these
                // descriptors for us, and no other code knows their numbers.
                fds.push(unsafe {
                    let number = libc::CMSG_DATA(message).cast::<RawFd>().add(index).read_unaligned();
                    OwnedFd::from_raw_fd(number)
                });
            }
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn three_descriptors_arrive_in_order_and_close_on_exec() {
        let (a, b) = pair();
        let files: Vec<_> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        send(&a, b"hello", &files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        let mut buffer = [0; 16];
        let got = receive(&b, &mut buffer).unwrap();
        assert_eq!((got.length, &buffer[..5], got.fds.len()), (5, &b"hello"[..], 3));
        for (sent, came) in files.iter().zip(&got.fds) {
            let inode = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).unwrap().st_ino;
            assert_eq!(inode(sent.as_fd()), inode(came.as_fd()));
            assert_eq!(fcntl(came, FcntlArg::F_GETFD).unwrap() & FdFlag::FD_CLOEXEC.bits(), 1);
        }
    }

    #[test]
    fn nothing_yet_is_eagain_and_the_end_is_zero() {
        let (a, b) = pair();
        let mut buffer = [0; 16];
        assert_eq!(receive(&b, &mut buffer).unwrap_err(), ReceiveError::Os(Errno::EAGAIN));
        drop(a);
        assert_eq!(receive(&b, &mut buffer).unwrap().length, 0);
    }

    #[test]
    fn a_datagram_that_is_too_long_delivers_nothing() {
        let (a, b) = pair();
        let file = tempfile::tempfile().unwrap();
        send(&a, &[7; 32], &[file.as_fd()]).unwrap();
        assert_eq!(receive(&b, &mut [0; 16]).unwrap_err(), ReceiveError::Truncated);
    }

    #[test]
    fn more_descriptors_than_agreed_are_lost_and_closed() {
        let (a, b) = pair();
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let raw = [write.as_raw_fd(); MAX_FDS + 1];
        sendmsg::<()>(
            a.as_raw_fd(),
            &[IoSlice::new(b"x")],
            &[ControlMessage::ScmRights(&raw)],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        drop(write);
        assert_eq!(receive(&b, &mut [0; 16]).unwrap_err(), ReceiveError::DescriptorsLost);
        assert_eq!(nix::unistd::read(&read, &mut [0; 1]), Ok(0), "every copy of the write end is closed");
    }

    #[test]
    fn a_datagram_goes_and_comes_in_two_parts() {
        let (a, b) = pair();
        send_parts(&a, b"head", b"body of it").unwrap();
        let (mut head, mut body) = ([0; 4], [0; 16]);
        assert_eq!(receive_parts(&b, &mut head, &mut body), Ok(14));
        assert_eq!((&head, &body[..10]), (b"head", &b"body of it"[..]));
        send_parts(&a, b"he", b"").unwrap();
        assert_eq!(receive_parts(&b, &mut head, &mut body), Ok(2));
        send_parts(&a, b"head", &[7; 17]).unwrap();
        assert_eq!(receive_parts(&b, &mut head, &mut body), Err(ReceiveError::Truncated));
    }

    #[test]
    fn plain_reception_refuses_descriptors() {
        let (a, b) = pair();
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        send(&a, b"x", &[write.as_fd()]).unwrap();
        drop(write);
        assert_eq!(receive_plain(&b, &mut [0; 16]).unwrap_err(), ReceiveError::DescriptorsLost);
        assert_eq!(nix::unistd::read(&read, &mut [0; 1]), Ok(0));
        send(&a, b"xyz", &[]).unwrap();
        assert_eq!(receive_plain(&b, &mut [0; 16]), Ok(3));
    }
}
