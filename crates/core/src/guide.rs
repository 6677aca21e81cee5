//! The Rust of the guide, as doc tests. `__test__/docs` checks that no page with Rust is missing here.
