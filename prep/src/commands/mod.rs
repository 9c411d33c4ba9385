//! The verbs, each a plain function of its arguments. They leave out parsing and exit codes.

pub mod advise;
pub mod inspect;
pub mod judge;
pub mod pack;
pub mod repair;
pub mod verify;
