//! Pushes as they pass: which [`uploads`] are kept, the copy ([`tee`]), and what ends one
//! ([`completion`]).

pub(crate) mod completion;
pub(crate) mod tee;
pub(crate) mod uploads;
