//! The filter of a watch or subscriber: it chooses one name, a group, a pattern, or all services.
//!
//! Invariant: the time to match is linear in the name's length. A group is exact: `audio` has `audio` and `audio.left`,
//! but not `audio2`. A filter knows names only, no records.

use crate::error::{Error, Result};
use crate::record::check_name;

const RULE: &str = "a service name in which '*' stands for any characters, at most 64 bytes";

/// Chooses services by name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// Every service.
    All,
    /// The service of exactly this name.
    Exact(String),
    /// The service of this name, and those whose name begins with it and a dot.
    Group(String),
    /// Names like `sensors.*`. A `*` stands for any number of characters, including none.
    Glob(String),
}

impl Filter {
    /// Reads what a user typed. `*` means all services, a text with a `*` in it is a pattern, any other text is one
    /// exact name.
    ///
    /// ```
    /// use ringbell::bus::Filter;
    /// assert!(Filter::parse("sensors.*")?.matches("sensors.cpu"));
    /// assert!(!Filter::parse("audio")?.matches("audio2"));
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Filter> {
        if text == "*" {
            return Ok(Filter::All);
        }
        if !text.contains('*') {
            check_name("service name", text)?;
            return Ok(Filter::Exact(text.to_owned()));
        }
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*'));
        if !plain || text.len() > crate::record::MAX_NAME {
            return Err(Error::InvalidName {
                what: "service pattern",
                name: text.chars().take(128).collect(),
                rule: RULE,
            });
        }
        Ok(Filter::Glob(text.to_owned()))
    }

    /// The group of `name`: the service of this name, and every service whose name begins with it and a dot.
    pub fn group(name: &str) -> Result<Filter> {
        check_name("service group", name)?;
        Ok(Filter::Group(name.to_owned()))
    }

    /// Whether the filter chooses a service of this name.
    pub fn matches(&self, service: &str) -> bool {
        match self {
            Filter::All => true,
            Filter::Exact(name) => name == service,
            Filter::Group(name) => service
                .strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            Filter::Glob(pattern) => glob(pattern, service),
        }
    }
}

/// Greedy: finds each piece between two stars as early as possible, and the last piece at the end.
fn glob(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_groups_and_patterns() {
        let group = Filter::group("audio").unwrap();
        assert!(group.matches("audio") && group.matches("audio.left"));
        assert!(!group.matches("audio2") && !group.matches("au"));
        for (pattern, name, expected) in [
            ("*", "x", true),
            ("sensors.*", "sensors.cpu", true),
            ("sensors.*", "sensors.", true),
            ("sensors.*", "sensors", false),
            ("*.cpu", "a.b.cpu", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a.b.b.c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(Filter::parse(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        for wrong in ["", "a/b*", "a b", "-a", "é*", &"x*".repeat(40)] {
            assert_eq!(Filter::parse(wrong).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME", "{wrong}");
        }
    }
}
