//! The torrent of content that is here whole.

use flotilla_client::SwarmHandle;
use flotilla_torrents::{Metainfo, PieceMap};

/// The standard torrent of a sealed map: private, named by the content, without dates.
pub(crate) fn sealed_torrent(map: &PieceMap, handle: &SwarmHandle) -> Result<Metainfo, String> {
    let name = handle.content().file_stem();
    map.seal(&name, &[], &[]).map_err(|e| e.to_string())
}
