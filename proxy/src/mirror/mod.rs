//! The proxy as a registry mirror: which [`hosts`] it stands for, [which one](naming) a request means,
//! logins at mirrors named in [`paths`], and where their answers [lead](locations).

pub(crate) mod hosts;
pub(crate) mod locations;
pub(crate) mod naming;
pub(crate) mod paths;
