//! For how long the kernel has had no memory for a datagram (ENOBUFS, ENOMEM) that one end of a stream has to send.
//!
//! A socket with room says nothing of such a shortage, so the datagram is tried again. If it lasts, the end that cannot
//! send gives the stream up: otherwise the other end would wait for ever for what was accepted, and nothing would say why.
//! The forwarder and the reader use it. It never waits.

use std::time::{Duration, Instant};

use nix::errno::Errno;

/// How long it may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// Since when it lasts, if it does.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    since: Option<Instant>,
}

/// What a datagram that was not sent means for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The socket has no room. It says when it has.
    Full,
    /// The kernel has no memory. Try again later: the socket has room, and does not say when there is memory.
    Short,
    /// The connection has ended, or the kernel has had no memory for too long.
    Lost,
}

impl Shortage {
    /// A datagram was sent.
    pub(super) fn over(&mut self) {
        self.since = None;
    }

    /// A datagram was not sent.
    pub(super) fn judge(&mut self, errno: Errno, now: Instant) -> Unsent {
        match errno {
            Errno::ENOBUFS | Errno::ENOMEM => {
                let since = *self.since.get_or_insert(now);
                if now.saturating_duration_since(since) < PATIENCE { Unsent::Short } else { Unsent::Lost }
            }
            Errno::EAGAIN => {
                self.over();
                Unsent::Full
            }
            _ => Unsent::Lost,
        }
    }

    /// Whether the last datagram met it.
    pub(super) fn lasts(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_borne_for_a_while_and_then_ends_the_stream() {
        let (mut shortage, begin) = (Shortage::default(), Instant::now());
        let almost = begin + PATIENCE - Duration::from_nanos(1);
        assert_eq!(shortage.judge(Errno::ENOBUFS, begin), Unsent::Short);
        assert_eq!(shortage.judge(Errno::ENOMEM, almost), Unsent::Short);
        assert!(shortage.lasts());
        assert_eq!(shortage.judge(Errno::ENOBUFS, begin + PATIENCE), Unsent::Lost);
        // Whatever shows that there is memory begins it anew.
        assert_eq!(shortage.judge(Errno::EAGAIN, begin + PATIENCE), Unsent::Full);
        assert_eq!(shortage.judge(Errno::ENOBUFS, begin + PATIENCE), Unsent::Short);
        shortage.over();
        assert!(!shortage.lasts());
        assert_eq!(shortage.judge(Errno::EPIPE, begin), Unsent::Lost);
    }
}
