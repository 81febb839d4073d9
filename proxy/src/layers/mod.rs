//! Layers: recognised in a [`request`], the caller checked, opened at a [`source`], answered by a
//! [`response`] whose [`body`] comes from the swarm and, where the swarm does not deliver, from the
//! registry ([`fallback`]).

pub(crate) mod body;
pub(crate) mod caller_check;
pub(crate) mod checked_content;
pub(crate) mod fallback;
pub(crate) mod node_layers;
pub(crate) mod range;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod source;
mod swarm_pace;
