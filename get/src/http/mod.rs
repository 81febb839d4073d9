//! Files straight from their web servers.

pub(crate) mod from_source;
pub(crate) mod min_rate;
pub(crate) mod netrc;
pub(crate) mod source_client;
pub(crate) mod validator;
