//! Bare Unix sockets: the floor of everything that talks through one. Messages of one fixed size, no framing.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Outcome;

const LISTENER: u64 = u64::MAX;

/// Sends back whatever each of any number of clients sends, until `stop` says so, which is asked every 100 ms.
pub fn echo(
    path: &Path,
    size: usize,
    ready: impl FnOnce() -> Outcome<()>,
    stop: impl Fn() -> bool,
) -> Outcome<()> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut clients: Vec<Option<UnixStream>> = Vec::new();
    let mut message = vec![0_u8; size];
    let mut events = [EpollEvent::empty(); 64];
    ready()?;
    while !stop() {
        let count = epoll.wait(&mut events, EpollTimeout::from(100_u16))?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                accept(&listener, &epoll, &mut clients)?;
            } else {
                let fd = event.data() as usize;
                let Some(Some(client)) = clients.get_mut(fd) else { continue };
                match client.read_exact(&mut message) {
                    Ok(()) => client.write_all(&message)?,
                    Err(_) => clients[fd] = None,
                }
            }
        }
    }
    Ok(())
}

fn accept(listener: &UnixListener, epoll: &Epoll, clients: &mut Vec<Option<UnixStream>>) -> Outcome<()> {
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                let fd: RawFd = client.as_raw_fd();
                epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, fd as u64))?;
                if clients.len() <= fd as usize {
                    clients.resize_with(fd as usize + 1, || None);
                }
                clients[fd as usize] = Some(client);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
