"""A `gcloud` for the tests: a machine is its startup script, run on this machine at the second try to reach it."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

here = pathlib.Path(os.environ["FAKE_CLOUD"])
with (here / "calls.jsonl").open("a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\n")
machine = here / "machine.sh"
if "create" in sys.argv:
    (given,) = [a for a in sys.argv if a.startswith("--metadata-from-file=startup-script=")]
    machine.write_text(pathlib.Path(given.rpartition("=")[2]).read_text())
elif "delete" in sys.argv:
    machine.unlink()
elif "start-iap-tunnel" in sys.argv:
    booted = here / "booted"
    if not booted.exists():
        booted.touch()
        sys.exit(
            "ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [4003: 'failed to connect to backend']."
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ready = here / f"ready-{port}"
    text = re.sub(r"RELAY_PORT=\d+", f"RELAY_PORT={port}", machine.read_text())
    text = text.replace("0.0.0.0", "127.0.0.1").replace("/run/slipway-relay", str(ready))
    with subprocess.Popen(["sh", "-c", text]) as relay:
        while not ready.exists():
            time.sleep(0.02)
        print(f"Picking local unused port [{port}].\nListening on port [{port}].", flush=True)
        try:
            relay.wait()
        finally:
            relay.terminate()
