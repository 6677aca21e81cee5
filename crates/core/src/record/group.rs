//! The part of a member of a service group in a record: which role its process has, and since which epoch.
//!
//! Plain data. Servers and publishers of a member announce it, and replace it with each change (`Announced::replace`).
//! Clients and subscribers that follow the primary compare it. Nothing is decided here.

use serde::{Deserialize, Serialize};

/// The largest epoch: JavaScript has no larger whole number.
const MAX_EPOCH: u64 = (1 << 53) - 1;

/// What a member of a service group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The one that acts.
    Primary,
    /// One that waits to.
    Standby,
}

/// The group part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// What the member is.
    pub role: Role,
    /// The epoch of its term; of its last one while it is a standby, and 0 if it had none.
    pub epoch: u64,
    /// Of a publisher that was primary: the sequence of the first message of that term. The publisher itself sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

impl GroupRecord {
    /// A member that has not been primary yet.
    pub const NEW: GroupRecord = GroupRecord { role: Role::Standby, epoch: 0, first: None };

    /// A member with this role.
    pub fn new(role: Role, epoch: u64) -> GroupRecord {
        GroupRecord { role, epoch, first: None }
    }

    /// The same member as a standby.
    #[must_use]
    pub fn standby(self) -> GroupRecord {
        GroupRecord { role: Role::Standby, ..self }
    }

    /// The epoch in which it is primary. `None`: it is a standby.
    pub fn term(self) -> Option<u64> {
        (self.role == Role::Primary).then_some(self.epoch)
    }

    pub(super) fn check(self) -> std::result::Result<(), &'static str> {
        match self.epoch {
            0 if self.role == Role::Primary => Err("a primary has the epoch 0"),
            0..=MAX_EPOCH => Ok(()),
            _ => Err("epoch is too large"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_has_an_epoch_that_javascript_can_hold() {
        let allowed = |role, epoch| GroupRecord::new(role, epoch).check().is_ok();
        assert!(allowed(Role::Standby, 0) && allowed(Role::Standby, 7) && allowed(Role::Primary, MAX_EPOCH));
        assert!(!allowed(Role::Primary, 0) && !allowed(Role::Standby, MAX_EPOCH + 1));
    }

    #[test]
    fn a_member_reads_back_what_it_announces() {
        let group = GroupRecord { first: Some(3), ..GroupRecord::new(Role::Primary, 5) };
        let text = serde_json::to_string(&group).unwrap();
        assert_eq!(text, r#"{"role":"primary","epoch":5,"first":3}"#);
        assert_eq!(serde_json::from_str::<GroupRecord>(&text).unwrap(), group);
        assert_eq!(serde_json::to_string(&GroupRecord::NEW).unwrap(), r#"{"role":"standby","epoch":0}"#);
        assert_eq!((group.term(), group.standby().term()), (Some(5), None));
    }
}
