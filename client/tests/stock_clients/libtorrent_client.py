"""One torrent in libtorrent: seeds or downloads until it is killed.

usage: libtorrent_client.py TORRENT_OR_MAGNET DIRECTORY PORT
"""

import sys
import time

import libtorrent

source, directory, port = sys.argv[1:]
session = libtorrent.session(
    {
        "listen_interfaces": f"127.0.0.1:{port}",
        "allow_multiple_connections_per_ip": True,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": 0,
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
