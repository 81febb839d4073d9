//! Lets strangers into the swarm of a torrent, at the supernodes of this node's cluster.

use flotilla_torrents::{InfoHash, Metainfo};
use url::Url;

use crate::supernode_client::{Supernode, SupernodeError, Supernodes};

/// The announce URL of a supernode's tracker, for [`Metainfo::with_sources`].
pub fn tracker_url(supernode: &Url) -> Url {
    Supernode::endpoint_of(supernode, "announce")
}

/// From now on the supernode tracks the torrent for all clients; its peers announce without tickets.
/// To be repeated when the tracker refuses an announce: a supernode forgets it when it is restarted,
/// and a day after the last seeder announced. Registering it again does no harm.
///
/// # Errors
/// The supernode cannot be reached, does not take this node for a member, or refuses.
pub async fn register_torrent(
    supernode: &Url,
    join_token: Option<&str>,
    torrent: &Metainfo,
) -> Result<InfoHash, SupernodeError> {
    let supernode = one(supernode, join_token)?;
    supernode.register_torrent(torrent.to_bytes()).await
}

/// Ends what [`register_torrent`] began.
///
/// # Errors
/// The supernode cannot be reached, does not take this node for a member, or does not know the
/// torrent.
pub async fn unregister_torrent(
    supernode: &Url,
    join_token: Option<&str>,
    torrent: InfoHash,
) -> Result<(), SupernodeError> {
    one(supernode, join_token)?
        .unregister_torrent(torrent)
        .await
}

fn one(supernode: &Url, join_token: Option<&str>) -> Result<Supernode, SupernodeError> {
    let urls = std::slice::from_ref(supernode);
    let known = Supernodes::new(urls, join_token);
    let known = known.map_err(|error| SupernodeError::NoneHealthy(error.to_string()))?;
    let supernode = known.all().first().cloned();
    supernode.ok_or_else(|| SupernodeError::NoneHealthy("no supernode given".to_owned()))
}
