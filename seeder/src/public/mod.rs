//! What this supernode gives to strangers: which [`repositories`] are listed, which [`layers`] came
//! from them, which [`swarms`] stock clients may join, and the [`torrents`] that name these.

pub(crate) mod layers;
pub(crate) mod repositories;
pub(crate) mod swarms;
pub(crate) mod torrents;
