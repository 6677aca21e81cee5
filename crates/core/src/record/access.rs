//! Which users may use what this process announces: by default its own user and root only.
//!
//! Invariant: file modes only keep other users away from the socket. The kernel's word on the peer decides which peer
//! is let in, before a single byte or descriptor is sent to it ([`Granted::permits`]). A right that cannot be given
//! exactly as asked for is an error. It is never replaced by a weaker or a wider right. Records, sockets and servers
//! use this module. It knows no topics and no channels.

use std::fmt;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::Gid;
use ringbell_ring::MAX_GUESTS;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::seqpacket::Peer;
use crate::sys::tmpfile::Rights;

/// The number that the kernel shows for a user or group without a number in this user namespace. It names no particular
/// user.
const OVERFLOW_ID: u32 = 65534;

/// A group of users, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Group {
    /// The number of the group.
    Id(u32),
    /// The name of the group, as in `/etc/group`.
    Name(String),
}

impl Group {
    /// The number of the group.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` when there is no such group, or when the number stands for no particular group.
    pub fn id(&self) -> Result<u32> {
        self.id_of("group")
    }

    /// The same where the group is the value of this option.
    fn id_of(&self, option: &'static str) -> Result<u32> {
        let wrong =
            |rule: &str| Err(Error::InvalidOption { option, value: self.to_string(), rule: rule.to_owned() });
        match self {
            Group::Id(id) if named(*id) => Ok(*id),
            Group::Id(_) => wrong(NAMED),
            Group::Name(name) => match nix::unistd::Group::from_name(name) {
                Ok(Some(group)) => Ok(group.gid.as_raw()),
                _ => wrong("it must be the name of a group of this machine, or its number"),
            },
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Id(id) => write!(f, "{id}"),
            Group::Name(name) => f.write_str(name),
        }
    }
}

/// Which other users may use what is announced. The publisher's own user and root always may.
///
/// ```
/// use ringbell::bus::Access;
///
/// let access = Access::default().uids(vec![1001]).max_guests(4);
/// assert_eq!(access.uids, [1001]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Which users can reach the socket at all: 0o660 (the file's group) or 0o666 (every user that can enter the
    /// directory). Default: 0o660 if there is a group, else 0o666. The record is readable for the same users.
    pub mode: Option<u32>,
    /// The group of the record and the socket. Its members may use them. Default: the bus's own group, if it has one.
    pub group: Option<Group>,
    /// Users that may.
    pub uids: Vec<u32>,
    /// More groups whose members may.
    pub gids: Vec<u32>,
    /// How many subscribers of other users (*guests*) a topic takes at a time, 1 to 64. Default: 16.
    pub max_guests: u8,
    /// How long a guest may block the room for the same message before it is evicted. Default: 1 s.
    pub evict_after: Duration,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            mode: None,
            group: None,
            uids: Vec::new(),
            gids: Vec::new(),
            max_guests: 16,
            evict_after: Duration::from_secs(1),
        }
    }
}

setters!(Access {
    Some mode: u32,
    Some group: Group,
    uids: Vec<u32>,
    gids: Vec<u32>,
    max_guests: u8,
    evict_after: Duration,
});

const NAMED: &str =
    "it must be numbers that name somebody: not 65534, which stands for every user that has no number here";

fn named(id: u32) -> bool {
    id != OVERFLOW_ID && id != u32::MAX
}

impl Access {
    /// Checks the request and fills in its defaults. `bus_group` is the group of the bus directory.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` with the rule.
    pub(crate) fn grant(&self, bus_group: Option<u32>) -> Result<Granted> {
        let wrong = |option, value: String, rule: String| Err(Error::InvalidOption { option, value, rule });
        for (option, ids) in [("access.uids", &self.uids), ("access.gids", &self.gids)] {
            if !ids.iter().copied().all(named) {
                return wrong(option, format!("{ids:?}"), NAMED.into());
            }
        }
        if !(1..=MAX_GUESTS).contains(&usize::from(self.max_guests)) {
            return wrong(
                "access.maxGuests",
                self.max_guests.to_string(),
                format!("it must be from 1 to {MAX_GUESTS}"),
            );
        }
        if self.evict_after < Duration::from_millis(1) {
            let rule = "it must be at least 1 ms".to_owned();
            return wrong("access.evictAfter", format!("{:?}", self.evict_after), rule);
        }
        if let Some(mode) = self.mode.filter(|mode| ![0o660, 0o666].contains(mode)) {
            let rule =
                "it must be 0o660 (the group) or 0o666 (everybody who can enter the directory)".to_owned();
            return wrong("access.mode", format!("{mode:#o}"), rule);
        }
        let group = match &self.group {
            Some(group) => Some(group.id_of("access.group")?),
            None => bus_group,
        };
        if group.is_none() && self.uids.is_empty() && self.gids.is_empty() {
            let rule = "it permits nobody; name a group, uids or gids, or open the bus with a group";
            return wrong("access", "{}".into(), rule.into());
        }
        let mode = self.mode.unwrap_or(if group.is_some() { 0o660 } else { 0o666 });
        Ok(Granted { mode, group, uids: self.uids.clone(), gids: self.gids.clone() })
    }
}

/// A checked access right. All names are resolved to numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    mode: u32,
    group: Option<u32>,
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Granted {
    /// Whether this peer may, apart from the owner and root.
    pub(crate) fn permits(&self, peer: &Peer) -> bool {
        let of_group = |gid: u32| named(gid) && (self.group == Some(gid) || self.gids.contains(&gid));
        named(peer.uid) && (self.uids.contains(&peer.uid) || peer.gids.iter().copied().any(of_group))
    }

    /// The rights of the record: readable where the socket can be reached, and writable for no other user.
    pub(crate) fn of_record(&self) -> Rights {
        self.rights(self.mode & 0o444 | 0o200)
    }

    /// The rights of the socket.
    pub(crate) fn of_socket(&self) -> Rights {
        self.rights(self.mode)
    }

    fn rights(&self, mode: u32) -> Rights {
        Rights { mode: Mode::from_bits_truncate(mode as _), group: self.group.map(Gid::from_raw) }
    }

    /// What the record says about the access.
    pub(crate) fn to_record(&self) -> AccessRecord {
        AccessRecord {
            mode: format!("{:04o}", self.mode),
            group: self.group,
            uids: self.uids.clone(),
            gids: self.gids.clone(),
        }
    }
}

/// What a record says about who may use the instance, for users to read. The publisher decides by its own `Granted`,
/// not by this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// Mode of the socket, octal.
    pub mode: String,
    /// The group of the record and the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Users that may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<u32>,
    /// More groups whose members may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gids: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gids: &[u32]) -> Peer {
        Peer { uid, pid: 1, gids: gids.to_vec() }
    }

    #[test]
    fn access_is_exactly_for_the_named_users_and_groups() {
        let access = Access { uids: vec![1001], gids: vec![50], ..Access::default() };
        let granted = access.grant(Some(40)).unwrap();
        for may in [peer(1001, &[]), peer(7, &[50]), peer(7, &[1, 40])] {
            assert!(granted.permits(&may), "{may:?}");
        }
        for may_not in [peer(1002, &[]), peer(0, &[0]), peer(50, &[1001]), peer(7, &[OVERFLOW_ID])] {
            assert!(!granted.permits(&may_not), "{may_not:?}");
        }
        assert_eq!((granted.of_socket().mode.bits(), granted.of_record().mode.bits()), (0o660, 0o640));
    }

    #[test]
    fn modes_follow_from_the_group_and_are_never_guessed() {
        let by_uid = Access { uids: vec![1], ..Access::default() };
        assert_eq!(by_uid.grant(None).unwrap().of_record().mode.bits(), 0o644);
        assert_eq!(by_uid.grant(None).unwrap().of_socket().mode.bits(), 0o666);
        assert_eq!(by_uid.grant(Some(3)).unwrap().to_record().mode, "0660");
        let wide = Access { mode: Some(0o666), ..by_uid };
        assert_eq!(wide.grant(Some(3)).unwrap().of_socket().mode.bits(), 0o666);
        let root = Access { group: Some(Group::Name("root".into())), ..Access::default() };
        assert_eq!(root.grant(None).unwrap().of_socket().group, Some(Gid::from_raw(0)));
    }

    #[test]
    fn wishes_that_cannot_be_granted_are_named() {
        let wrong = [
            ("access", Access::default()),
            ("access.mode", Access { mode: Some(0o600), uids: vec![1], ..Access::default() }),
            ("access.mode", Access { mode: Some(0o777), uids: vec![1], ..Access::default() }),
            ("access.uids", Access { uids: vec![1, OVERFLOW_ID], ..Access::default() }),
            ("access.gids", Access { gids: vec![u32::MAX], ..Access::default() }),
            ("access.mode", Access { mode: Some(0o777), ..Access::default() }),
            (
                "access.group",
                Access { group: Some(Group::Name("no such group".into())), ..Access::default() },
            ),
            ("access.maxGuests", Access { uids: vec![1], max_guests: 65, ..Access::default() }),
            ("access.evictAfter", Access { uids: vec![1], evict_after: Duration::ZERO, ..Access::default() }),
        ];
        for (named, access) in wrong {
            let error = access.grant(None).unwrap_err();
            assert!(matches!(error, Error::InvalidOption { option, .. } if option == named), "{error}");
        }
    }
}
