//! The proxy as a registry mirror: which [`hosts`] it stands for, and mirrors named in [`paths`].

pub(crate) mod hosts;
pub(crate) mod paths;
