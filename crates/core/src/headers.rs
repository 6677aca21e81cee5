//! The headers of a message: names and values that travel behind its payload, in the same frame or the same pieces.
//!
//! ```text
//! header   u16 length of the name | u16 length of the value | name | value        little endian, one behind the other
//! ```
//!
//! Topics and channels send and receive them, and the binding passes their bytes on. Invariant: what `insert` made can
//! be sent; what a peer made may be anything, so reading stops at the first header that makes no sense. Nothing here
//! knows where the bytes lie in a ring.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Result};

/// Bytes that a header adds to its name and value.
const LENGTHS: usize = 4;

/// The headers of a message: a small map of text that travels beside the payload.
///
/// A name has 1 to 256 characters, those of HTTP's header names in lower case. A value is text without control characters,
/// but for the tab. A message has at most 64 headers. Together they take at most 8,192 bytes: names and values in UTF-8, and 4
/// bytes for each header.
///
/// ```
/// use ringbell::Headers;
///
/// let mut headers = Headers::new();
/// headers.insert("tenant", "acme")?;
/// assert_eq!(headers.get("tenant"), Some("acme"));
/// # Ok::<(), ringbell::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: Cow<'a, [u8]>,
}

impl<'a> Headers<'a> {
    /// Most headers of a message.
    pub const MOST: usize = 64;
    /// Most bytes of all headers of a message.
    pub const MOST_BYTES: usize = 8192;
    /// Most bytes of a name.
    pub const LONGEST_NAME: usize = 256;

    /// No headers yet.
    pub const fn new() -> Headers<'a> {
        Headers { bytes: Cow::Borrowed(&[]) }
    }

    /// Headers as another process has written them. They may be anything: see [`iter`](Self::iter). No message has more than
    /// 65,535 bytes of them, so what is beyond is left out.
    pub const fn from_bytes(bytes: &'a [u8]) -> Headers<'a> {
        let most = u16::MAX as usize;
        let bytes = if bytes.len() > most { bytes.split_at(most).0 } else { bytes };
        Headers { bytes: Cow::Borrowed(bytes) }
    }

    /// The bytes that travel.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes travel.
    #[inline]
    pub(crate) fn size(&self) -> u16 {
        // Nothing makes more: `insert` refuses it, and `from_bytes` cuts it off.
        u16::try_from(self.bytes.len()).unwrap_or(u16::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        entries(self.as_bytes()).next().is_none()
    }

    /// Sets a header, in place of an earlier one with this name.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` for a name or a value that must not be, and when a limit is exceeded. Then nothing
    /// has changed.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |value: &str, rule: &str| {
            let value = value.chars().take(80).collect();
            Err(Error::InvalidOption { option: "headers", value, rule: rule.into() })
        };
        if !is_name(name) {
            return wrong(name, "a name has 1 to 256 characters: a to z, 0 to 9 and !#$%&'*+-.^_`|~");
        }
        if value.chars().any(|char| char.is_ascii_control() && char != '\t') {
            return wrong(value, "a value has no control characters");
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() + LENGTHS + name.len() + value.len());
        let mut count = 1;
        for (other, kept) in self.iter().filter(|(other, _)| *other != name) {
            put(&mut bytes, other, kept);
            count += 1;
        }
        if count > Headers::MOST {
            return wrong(name, "a message has at most 64 headers");
        }
        if bytes.len() + LENGTHS + name.len() + value.len() > Headers::MOST_BYTES {
            return wrong(name, "all headers together take at most 8192 bytes");
        }
        put(&mut bytes, name, value);
        self.bytes = Cow::Owned(bytes);
        Ok(())
    }

    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        entries(self.as_bytes()).find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values, in the order in which they were set. Of headers that a peer has sent it gives those before the
    /// first one that is cut off or is not text, at most 64. Of a name that comes twice the first counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let bytes = self.as_bytes();
        let first = move |at: usize, name: &str| !entries(bytes).take(at).any(|(earlier, _)| earlier == name);
        entries(bytes).enumerate().filter(move |(at, (name, _))| first(*at, name)).map(|(_, entry)| entry)
    }

    /// The same headers, in memory of their own.
    pub fn into_owned(self) -> Headers<'static> {
        Headers { bytes: Cow::Owned(self.bytes.into_owned()) }
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn is_name(name: &str) -> bool {
    (1..=Headers::LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
}

/// Appends a header. Both lengths were checked.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend((value.len() as u16).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(value.as_bytes());
}

/// What these bytes say, as far as it makes sense.
fn entries(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = bytes;
    let all = std::iter::from_fn(move || {
        let (name, value, behind) = take(rest)?;
        rest = behind;
        Some((name, value))
    });
    all.take(Headers::MOST)
}

/// The first header, and what follows it.
fn take(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let ([a, b, c, d], rest) = bytes.split_first_chunk::<LENGTHS>()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes([*a, *b]).into())?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes([*c, *d]).into())?;
    let (name, value) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?);
    (!name.is_empty()).then_some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(&str, &str)]) -> Result<Headers<'static>> {
        let mut headers = Headers::new();
        entries.iter().try_for_each(|(name, value)| headers.insert(name, value))?;
        Ok(headers)
    }

    #[test]
    fn they_come_back_as_they_were_and_the_last_value_counts() {
        let all = headers(&[("a", "1"), ("x-b", ""), ("a", "zwölf"), ("c", "tab\there")]).unwrap();
        let back = Headers::from_bytes(all.as_bytes());
        assert_eq!(back.iter().collect::<Vec<_>>(), [("x-b", ""), ("a", "zwölf"), ("c", "tab\there")]);
        assert_eq!((back.get("a"), back.get("b")), (Some("zwölf"), None));
        assert_eq!(all.as_bytes()[..7], [3, 0, 0, 0, b'x', b'-', b'b']);
        assert!(Headers::new().is_empty() && !back.is_empty());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_and_changes_nothing() {
        let long = "x".repeat(Headers::LONGEST_NAME);
        assert!(headers(&[(&long, "1")]).is_ok());
        for (name, value) in [
            ("", "1"),
            ("Upper", "1"),
            ("ä", "1"),
            ("a b", "1"),
            (&*format!("{long}x"), "1"),
            ("a", "two\nlines"),
            ("a", "\0"),
            ("a", "\x7f"),
        ] {
            let mut all = headers(&[("kept", "1")]).unwrap();
            let error = all.insert(name, value).unwrap_err();
            assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION", "{name:?}: {value:?}");
            assert_eq!(all, headers(&[("kept", "1")]).unwrap());
        }
    }

    #[test]
    fn both_limits_hold() {
        let names: Vec<_> = (0..=Headers::MOST).map(|number| number.to_string()).collect();
        let mut all = Headers::new();
        for name in &names[..Headers::MOST] {
            all.insert(name, "").unwrap();
        }
        assert!(all.insert(&names[Headers::MOST], "").is_err());
        assert!(all.insert(&names[0], "another value").is_ok());

        let full = "x".repeat(Headers::MOST_BYTES - LENGTHS - 1);
        let all = headers(&[("a", &full)]).unwrap();
        assert_eq!(all.as_bytes().len(), Headers::MOST_BYTES);
        assert!(headers(&[("a", &format!("{full}x"))]).is_err());
    }

    #[test]
    fn of_a_name_that_comes_twice_the_first_counts_and_what_is_too_much_is_left_out() {
        let mut bytes = Vec::new();
        [("a", "1"), ("b", "2"), ("a", "3")].iter().for_each(|(name, value)| put(&mut bytes, name, value));
        let twice = Headers::from_bytes(&bytes);
        assert_eq!(
            (twice.iter().collect::<Vec<_>>(), twice.get("a")),
            (vec![("a", "1"), ("b", "2")], Some("1"))
        );

        bytes.clear();
        (0..10_000).for_each(|number| put(&mut bytes, &number.to_string(), ""));
        let many = Headers::from_bytes(&bytes);
        assert_eq!(many.as_bytes().len(), usize::from(many.size()));
        assert_eq!((many.size(), many.iter().count()), (u16::MAX, Headers::MOST));
    }

    #[test]
    fn reading_stops_where_it_makes_no_sense() {
        let whole = headers(&[("a", "1"), ("b", "2")]).unwrap();
        for cut in 0..whole.as_bytes().len() {
            let part = Headers::from_bytes(&whole.as_bytes()[..cut]);
            assert_eq!(part.iter().count(), cut / 6, "{cut}");
        }
        for wrong in [&[0, 0, 0, 0][..], &[1, 0, 1, 0, 0xff, b'1'], &[1, 0, 1, 0, b'a', 0xff], &[0xff; 9]] {
            let mut bytes = headers(&[("a", "1")]).unwrap().as_bytes().to_vec();
            bytes.extend(wrong);
            assert_eq!(Headers::from_bytes(&bytes).iter().count(), 1);
        }
    }
}
