"""Bigtable's data interface in a process of its own: `python -m tests.features.bigtable_server ENTITIES`.

Its port is its first line; then a word a line on stdin: `digest` of all rows, `empty`.
"""

from __future__ import annotations

import hashlib
import json
import sys

from tests.serving.google_servers import Bigtable, Trouble, serve

service = Bigtable(Trouble(), "projects/p/instances/dev-store/tables/dev-store", "f")
for i in range(int(sys.argv[1])):
    service.rows[f"dev:features:{i}".encode()] = {b"v": {1_700_000_000_000_000 + i * 1000: bytes([i % 256]) * 64}}
server, port = serve(service)
print(json.dumps({"port": port}), flush=True)
for line in sys.stdin:
    if line.strip() == "empty":
        service.rows.clear()
    print(json.dumps(hashlib.sha256(repr(sorted(service.rows.items())).encode()).hexdigest()), flush=True)
server.stop(None)
