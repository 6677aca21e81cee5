//! A set of members: those to wake, or those to look after. It has a fixed size, so that no look at a table allocates.

use super::words::MAX_MEMBERS;

const WORDS: usize = MAX_MEMBERS / 64;

/// A set of members of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members([u64; WORDS]);

impl Members {
    /// The empty set.
    pub const fn none() -> Self {
        Self([0; WORDS])
    }

    /// Adds a member.
    pub fn add(&mut self, member: usize) {
        if let Some(word) = self.0.get_mut(member / 64) {
            *word |= 1 << (member % 64);
        }
    }

    /// Whether the member is in it.
    pub fn contains(&self, member: usize) -> bool {
        self.0.get(member / 64).is_some_and(|word| word >> (member % 64) & 1 == 1)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}
