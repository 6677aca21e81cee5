//! The options of a member. Wrong options are refused at once.

use serde_json::{Map, Value};

use super::control::OWN_FIELDS;
use crate::error::{Error, Result};
use crate::record::Access;

/// How a member takes part in its group.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MemberOptions {
    /// More fields for the metadata of the member's record, beside `group`, `role`, `epoch`, `state` and `heartbeat`.
    pub metadata: Map<String, Value>,
    /// The answer to a heartbeat says how long ago the program called [`Member::beat`](super::Member::beat). Default: no; then it says only
    /// that the program calls [`Member::update`](super::Member::update).
    pub manual_heartbeat: bool,
    /// Which other users may call the member's control service. Default: none.
    pub access: Option<Access>,
}

setters!(MemberOptions {
    metadata: Map<String, Value>,
    manual_heartbeat: bool,
    Some access: Access,
});

impl MemberOptions {
    pub(super) fn check(&self) -> Result<()> {
        match OWN_FIELDS.into_iter().find(|name| self.metadata.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::InvalidOption {
                option: "metadata",
                value: name.to_owned(),
                rule: "it must not have a field that the member keeps itself".into(),
            }),
        }
    }
}
