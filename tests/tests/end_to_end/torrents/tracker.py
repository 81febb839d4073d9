"""A tracker for tests: names to each peer all others of its torrent (BEP 3, BEP 23).

usage: tracker.py ADDRESS PORT
"""

import http.server
import socket
import sys
from urllib.parse import unquote_to_bytes

swarms = {}


class Tracker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = self.path.partition("?")[2]
        given = dict(part.partition("=")[::2] for part in query.split("&"))
        swarm = swarms.setdefault(unquote_to_bytes(given["info_hash"]), {})
        me = (self.client_address[0], int(given["port"]))
        if given.get("event") == "stopped":
            swarm.pop(me, None)
        else:
            swarm[me] = given["left"] == "0"
        peers = b"".join(
            socket.inet_aton(host) + port.to_bytes(2, "big")
            for host, port in swarm
            if (host, port) != me
        )
        body = b"d8:intervali2e5:peers%d:%se" % (len(peers), peers)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(given.get("event", "-"), *me, given["left"], flush=True)

    def log_message(self, *_):
        pass


address, port = sys.argv[1:]
http.server.ThreadingHTTPServer((address, int(port)), Tracker).serve_forever()
