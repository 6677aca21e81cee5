//! The Rust of the guide, as doc tests. `__test__/docs` checks that no page with Rust is missing here.

#![allow(rustdoc::invalid_codeblock_attributes)] // `js file=…` is for that test.

#[doc = include_str!("../../../docs/guide/claims.md")]
mod claims {}

#[doc = include_str!("../../../docs/guide/groups.md")]
mod groups {}

#[doc = include_str!("../../../docs/guide/locks.md")]
mod locks {}

#[doc = include_str!("../../../docs/guide/publish-and-subscribe.md")]
mod publish_and_subscribe {}

#[doc = include_str!("../../../docs/guide/state.md")]
mod state {}

#[doc = include_str!("../README.md")]
struct Readme;
