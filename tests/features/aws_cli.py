"""An `aws` for the tests: a session that forwards to a remote host is a relay on this machine."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

here = pathlib.Path(os.environ["FAKE_CLOUD"])
(here / "call.json").write_text(json.dumps(sys.argv[1:]))
asked = json.loads(sys.argv[sys.argv.index("--parameters") + 1])
if (here / "refuses").exists():
    sys.exit("An error occurred (TargetNotConnected): the machine is not connected.")
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ready = here / "ready"
env = {
    "SLIPWAY_RELAY_TO": f"{asked['host'][0]}:{asked['portNumber'][0]}",
    "SLIPWAY_RELAY_PORT": str(port),
    "SLIPWAY_RELAY_READY": str(ready),
}
with subprocess.Popen([sys.executable, os.environ["RELAY"]], env={**os.environ, **env}) as relay:
    while not ready.exists():
        time.sleep(0.02)
    print(f"Starting session with SessionId: dev-1\nPort {port} opened for sessionId dev-1.", flush=True)
    try:
        relay.wait()
    finally:
        relay.terminate()
