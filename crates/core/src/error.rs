//! Every way in which this crate can fail: one type, one stable code for each variant, one sentence that says what to
//! do.
//!
//! Invariant: `CODES` and the variants agree. A test walks both, because the TypeScript side is checked against the
//! same list. Nothing here decides anything, with one exception: [`Error::os`] alone turns a kernel error into
//! [`Error::Resource`] when a limit ran out, and into [`Error::Os`] otherwise.

use nix::errno::Errno;
use ringbell_ring::Fault;

/// The result of every function of this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of ringbell. [`Error::code`] is stable; the text is for people and may change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed, and the reason is not a resource limit.
    #[error("{hint} ({syscall}: {errno})")]
    Os {
        /// The name of the system call, as in its man page.
        syscall: &'static str,
        /// What the kernel answered.
        errno: Errno,
        /// What was being done, and what to do about it.
        hint: String,
    },
    /// Descriptors, memory, disk or inotify watches ran out. The text names the limit.
    #[error("{hint}: {limit} ({syscall}: {errno})")]
    Resource {
        /// The name of the system call, as in its man page.
        syscall: &'static str,
        /// What the kernel answered.
        errno: Errno,
        /// The limit to raise.
        limit: &'static str,
        /// What was being done.
        hint: String,
    },
    /// A service name or pattern that breaks the rule.
    #[error("'{name}' is not a valid {what}: {rule}")]
    InvalidName {
        /// What the name was for.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An option with a wrong value.
    #[error("option {option} has the wrong value {value}: {rule}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// The value as given.
        value: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// The bus directory cannot be used safely, so it is not used.
    #[error("bus directory {path} refused: {reason}")]
    BusDirectory {
        /// The directory.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A record breaks the rules, so it is ignored.
    #[error("record {file} ignored: {reason}")]
    Record {
        /// The record's file name.
        file: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// No such service is announced.
    #[error("no service '{service}' on this bus; is its process running, on the same bus and domain?")]
    NotFound {
        /// The name that was looked for.
        service: String,
    },
    /// The time that the caller gave has run out.
    #[error("timed out after {milliseconds} ms waiting for {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The time that was given, in milliseconds.
        milliseconds: u64,
    },
    /// The caller's own signal ended the wait.
    #[error("{what} was aborted by its signal")]
    Aborted {
        /// What was waited for.
        what: String,
    },
    /// It was used after `close`, or in a forked child that did not open it itself.
    #[error("this {what} is closed; open a new one")]
    Closed {
        /// What is closed.
        what: &'static str,
    },
    /// The message is larger than the ring takes at once, or larger than any message can be.
    #[error(
        "message of {size} bytes is larger than the {limit} bytes that it may have here; raise the capacity (of a state: its size), or use write on a block topic"
    )]
    MessageTooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The largest allowed size in bytes.
        limit: usize,
    },
    /// A call of `send` or `write`, or a second window, while a batch window or a loan is open.
    #[error("a batch window or loan is open; commit or abandon it first")]
    WindowOpen,
    /// The peer speaks another version of the protocol.
    #[error("peer speaks protocol version {theirs}, this side {ours}; update the older of the two")]
    ProtocolVersion {
        /// This side's version.
        ours: u32,
        /// The peer's version.
        theirs: u32,
    },
    /// A peer's shared memory, descriptor or datagram broke the rules, so that peer is dropped.
    #[error("peer dropped because it broke the protocol: {what}")]
    CorruptPeer {
        /// Which rule it broke.
        what: String,
    },
    /// All slots of the publisher are taken.
    #[error(
        "all {max} places are taken; raise maxSubscribers of the topic, maxReaders of the state, or access.maxGuests for other users"
    )]
    NoSlot {
        /// How many slots there are.
        max: usize,
    },
    /// The peer answered, and refused.
    #[error("refused by the peer: {reason}")]
    Refused {
        /// The peer's words.
        reason: String,
    },
    /// No rung of the ladder led to the peer.
    #[error("no way to acquire '{service}': {}", .reasons.join("; "))]
    Acquire {
        /// The service.
        service: String,
        /// One line for each rung: its name, and why it failed.
        reasons: Vec<String>,
    },
    /// The publisher evicted this subscriber, because it stalled a `block` topic for too long.
    #[error(
        "evicted from '{service}': it did not read for longer than evictAfter allows; read faster, or raise evictAfter or the capacity"
    )]
    Evicted {
        /// The topic.
        service: String,
    },
    /// The kernel lacks something that cannot be replaced.
    #[error("this platform cannot do it: {what}")]
    UnsupportedPlatform {
        /// What is missing, and the version that has it.
        what: String,
    },
    /// The peer's process is gone.
    #[error("'{service}' is gone; wait for another instance")]
    PeerGone {
        /// The service.
        service: String,
    },
    /// The connection of a stream has ended although its publisher lives.
    #[error("the stream from '{service}' was cut off; its publisher lives, so the option reconnect applies")]
    Disconnected {
        /// The topic.
        service: String,
    },
    /// The peer exists, but this user may not reach it.
    #[error("not permitted: {what}")]
    NoPermission {
        /// What was tried, and what would permit it.
        what: String,
    },
    /// Another subscriber of this publisher holds the durable name.
    #[error(
        "the durable name '{name}' is held by another subscriber; it is tried again until that one has gone"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// All keys and values of a state are more than its ring can keep.
    #[error(
        "the keys and values of this state would take {size} bytes and may take {limit}; delete some, or raise its capacity"
    )]
    StateFull {
        /// Bytes that they would take.
        size: usize,
        /// Bytes that they may take: half of the ring.
        limit: usize,
    },
    /// Another process may hold the claim now.
    #[error("the claim '{name}' is lost: {reason}; stop acting for it, and claim it again")]
    ClaimLost {
        /// The name.
        name: String,
        /// How it was lost.
        reason: String,
    },
    /// This process is a standby, and only the primary may act.
    #[error("this process is a standby for '{name}', so nothing was done; only the primary may act")]
    NotPrimary {
        /// The service.
        name: String,
    },
}

/// Every code that [`Error::code`] can answer, in the order of the variants.
pub const CODES: &[&str] = &[
    "ERR_RINGBELL_SYSTEM",
    "ERR_RINGBELL_RESOURCE",
    "ERR_RINGBELL_INVALID_NAME",
    "ERR_RINGBELL_INVALID_OPTION",
    "ERR_RINGBELL_BUS_DIRECTORY",
    "ERR_RINGBELL_RECORD",
    "ERR_RINGBELL_NOT_FOUND",
    "ERR_RINGBELL_TIMEOUT",
    "ERR_RINGBELL_ABORTED",
    "ERR_RINGBELL_CLOSED",
    "ERR_RINGBELL_MESSAGE_TOO_LARGE",
    "ERR_RINGBELL_WINDOW_OPEN",
    "ERR_RINGBELL_PROTOCOL_VERSION",
    "ERR_RINGBELL_CORRUPT_PEER",
    "ERR_RINGBELL_NO_SLOT",
    "ERR_RINGBELL_REFUSED",
    "ERR_RINGBELL_ACQUIRE",
    "ERR_RINGBELL_EVICTED",
    "ERR_RINGBELL_UNSUPPORTED_PLATFORM",
    "ERR_RINGBELL_PEER_GONE",
    "ERR_RINGBELL_NO_PERMISSION",
    "ERR_RINGBELL_NAME_TAKEN",
    "ERR_RINGBELL_DISCONNECTED",
    "ERR_RINGBELL_STATE_FULL",
    "ERR_RINGBELL_CLAIM_LOST",
    "ERR_RINGBELL_NOT_PRIMARY",
];

impl Error {
    /// Makes the error of a failed system call: [`Error::Resource`], which names the limit, if one ran out, and
    /// [`Error::Os`] otherwise.
    pub fn os(syscall: &'static str, errno: Errno, hint: impl Into<String>) -> Error {
        let hint = hint.into();
        match limit_of(syscall, errno) {
            Some(limit) => Error::Resource { syscall, errno, limit, hint },
            None => Error::Os { syscall, errno, hint },
        }
    }

    /// The stable code, `ERR_RINGBELL_…`.
    pub fn code(&self) -> &'static str {
        CODES[self.index()]
    }

    /// The errno as a number. `None` if no system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Os { errno, .. } | Error::Resource { errno, .. } => Some(*errno as i32),
            _ => None,
        }
    }

    /// The name of the system call that failed. `None` if none failed.
    pub fn syscall(&self) -> Option<&'static str> {
        match self {
            Error::Os { syscall, .. } | Error::Resource { syscall, .. } => Some(syscall),
            _ => None,
        }
    }

    /// The position of this variant's code in [`CODES`].
    fn index(&self) -> usize {
        match self {
            Error::Os { .. } => 0,
            Error::Resource { .. } => 1,
            Error::InvalidName { .. } => 2,
            Error::InvalidOption { .. } => 3,
            Error::BusDirectory { .. } => 4,
            Error::Record { .. } => 5,
            Error::NotFound { .. } => 6,
            Error::Timeout { .. } => 7,
            Error::Aborted { .. } => 8,
            Error::Closed { .. } => 9,
            Error::MessageTooLarge { .. } => 10,
            Error::WindowOpen => 11,
            Error::ProtocolVersion { .. } => 12,
            Error::CorruptPeer { .. } => 13,
            Error::NoSlot { .. } => 14,
            Error::Refused { .. } => 15,
            Error::Acquire { .. } => 16,
            Error::Evicted { .. } => 17,
            Error::UnsupportedPlatform { .. } => 18,
            Error::PeerGone { .. } => 19,
            Error::NoPermission { .. } => 20,
            Error::NameTaken { .. } => 21,
            Error::Disconnected { .. } => 22,
            Error::StateFull { .. } => 23,
            Error::ClaimLost { .. } => 24,
            Error::NotPrimary { .. } => 25,
        }
    }
}

/// The caller tells an eviction from the other faults where one is allowed, because only it knows the topic.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Expelled => {
                Error::Refused { reason: "the peer found that this side's cursor is invalid".into() }
            }
            fault => Error::CorruptPeer { what: fault.to_string() },
        }
    }
}

/// The limit behind a resource errno, in words that say what to raise. `None` if it is no resource errno.
fn limit_of(syscall: &str, errno: Errno) -> Option<&'static str> {
    match (errno, syscall) {
        (Errno::EMFILE, "inotify_init1") => {
            Some("raise fs.inotify.max_user_instances (per user, 128 by default)")
        }
        (Errno::ENOSPC, "inotify_add_watch") => Some("raise fs.inotify.max_user_watches"),
        (Errno::ENOSPC, "epoll_ctl") => Some("raise fs.epoll.max_user_watches"),
        (Errno::EAGAIN, "clone") => Some(
            "too many threads; raise RLIMIT_NPROC (ulimit -u), the cgroup's pids.max or kernel.threads-max",
        ),
        (Errno::EMFILE, _) => {
            Some("too many open descriptors in this process; raise RLIMIT_NOFILE (ulimit -n)")
        }
        (Errno::ENFILE, _) => Some("too many open files on this machine; raise fs.file-max"),
        (Errno::ENOMEM, _) => {
            Some("out of memory; look at the cgroup's memory limit, RLIMIT_AS and vm.max_map_count")
        }
        (Errno::ENOSPC, _) => Some("no space left in the bus directory's file system, or no inodes"),
        (Errno::EDQUOT, _) => Some("the disk quota of this user is used up"),
        (Errno::EFBIG, _) => Some("larger than RLIMIT_FSIZE allows (ulimit -f)"),
        (Errno::ETOOMANYREFS, _) => Some("too many descriptors in flight for this user; raise RLIMIT_NOFILE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One error of each variant. A new variant does not compile in `index`, and fails here until it is listed.
    fn all() -> Vec<Error> {
        let s = String::new;
        vec![
            Error::os("open", Errno::EACCES, "x"),
            Error::os("open", Errno::EMFILE, "x"),
            Error::InvalidName { what: "service name", name: s(), rule: "" },
            Error::InvalidOption { option: "x", value: s(), rule: s() },
            Error::BusDirectory { path: s(), reason: s() },
            Error::Record { file: s(), reason: s() },
            Error::NotFound { service: s() },
            Error::Timeout { what: s(), milliseconds: 0 },
            Error::Aborted { what: s() },
            Error::Closed { what: "bus" },
            Error::MessageTooLarge { size: 0, limit: 0 },
            Error::WindowOpen,
            Error::ProtocolVersion { ours: 1, theirs: 2 },
            Error::CorruptPeer { what: s() },
            Error::NoSlot { max: 1 },
            Error::Refused { reason: s() },
            Error::Acquire { service: s(), reasons: vec![] },
            Error::Evicted { service: s() },
            Error::UnsupportedPlatform { what: s() },
            Error::PeerGone { service: s() },
            Error::NoPermission { what: s() },
            Error::NameTaken { name: s() },
            Error::Disconnected { service: s() },
            Error::StateFull { size: 2, limit: 1 },
            Error::ClaimLost { name: s(), reason: s() },
            Error::NotPrimary { name: s() },
        ]
    }

    #[test]
    fn codes_and_variants_agree() {
        let codes: Vec<&str> = all().iter().map(Error::code).collect();
        assert_eq!(codes, CODES);
        let mut unique = codes.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), codes.len(), "two variants share a code");
        assert!(codes.iter().all(|code| code.starts_with("ERR_RINGBELL_")));
    }

    #[test]
    fn a_fault_is_told_in_words() {
        let words = |fault: Fault| Error::from(fault).to_string();
        assert!(
            words(Fault::Corrupt("a frame reaches beyond head")).ends_with(": a frame reaches beyond head")
        );
        assert!(words(Fault::Evicted).ends_with("it evicted this reader"));
        assert_eq!(Error::from(Fault::Expelled).code(), "ERR_RINGBELL_REFUSED");
    }

    #[test]
    fn a_spent_limit_is_named() {
        let error = Error::os("inotify_init1", Errno::EMFILE, "cannot watch the bus");
        assert_eq!(error.code(), "ERR_RINGBELL_RESOURCE");
        assert_eq!(error.errno(), Some(24));
        assert_eq!(error.syscall(), Some("inotify_init1"));
        assert!(error.to_string().contains("max_user_instances"), "{error}");
        let error = Error::os("clone", Errno::EAGAIN, "cannot start the bus thread");
        assert_eq!(error.code(), "ERR_RINGBELL_RESOURCE");
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
    }
}
