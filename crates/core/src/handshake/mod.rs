//! The handshake: how two processes that share a bus directory meet over the socket of a record, for any purpose.
//!
//! There is one state machine on each side, the same for topics and channels. The server's side ([`Listener`],
//! `server`) answers for a [`Service`], which says what a client is given. The client's side (`client`, `ladder`)
//! acts for a [`Want`], which says what is asked for and what is made of the answers. Everything here lives on the
//! bus thread, never blocks, and puts a time limit on each wait.

mod backoff;
mod client;
mod direct;
mod ladder;
mod listener;
mod proof;
mod reach;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;
pub(crate) mod wire;

pub(crate) use backoff::Backoff;
pub(crate) use client::{Attempt, Next, Want};
pub(crate) use direct::{same_world, verdict_for};
#[cfg(test)]
pub(crate) use ladder::Climb;
pub(crate) use ladder::{Acquired, Acquirer, Acquisition, Ask, Done};
#[cfg(test)]
pub(crate) use listener::MOST;
pub(crate) use listener::serve;
pub(crate) use proof::check_alive;
pub(crate) use server::{Answer, PeerClass, Service, Then};
#[cfg(test)]
pub(crate) use server::{HandshakeStatus, ServerHandshake, Terms};
pub(crate) use verdict::Verdict;
