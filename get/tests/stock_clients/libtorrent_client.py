"""One torrent in libtorrent: downloads what is missing, then seeds until it is killed.

usage: libtorrent_client.py TORRENT_OR_MAGNET DIRECTORY ADDRESS PORT
"""

import sys
import time

import libtorrent

source, directory, address, port = sys.argv[1:]
session = libtorrent.session(
    {
        "listen_interfaces": f"{address}:{port}",
        # On loopback all peers have one address.
        "allow_multiple_connections_per_ip": True,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
    }
)
if source.startswith("magnet:"):
    torrent = libtorrent.parse_magnet_uri(source)
else:
    torrent = libtorrent.add_torrent_params()
    torrent.ti = libtorrent.torrent_info(source)
torrent.save_path = directory
handle = session.add_torrent(torrent)
while True:
    print(handle.status().state, handle.status().progress, flush=True)
    time.sleep(0.5)
