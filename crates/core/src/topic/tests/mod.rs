//! Topics between users. What needs one user only is tested from outside, in `tests/`.

mod guest_roles;
mod guests;
