//! Machines of the testbed: namespaces, their links, and what passed over them.

pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod namespace;
