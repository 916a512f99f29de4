"""A `kubectl` for the tests: keeps what is applied, and a port-forward runs the Job's own container on this machine."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

here = pathlib.Path(os.environ["FAKE_CLUSTER"])
words = [a for a in sys.argv[1:] if not a.startswith("-")]
with (here / "calls.jsonl").open("a") as log:
    log.write(json.dumps([os.environ.get("KUBECONFIG", ""), *sys.argv[1:]]) + "\n")
if "apply" in words:
    (here / "applied.json").write_text(sys.stdin.read())
elif "delete" in words:
    (here / "applied.json").unlink(missing_ok=True)
elif "wait" in words:
    if (here / "unschedulable").exists():
        sys.exit("error: timed out waiting for the condition")
elif "get" in words:
    print((here / f"{words[words.index('get') + 1]}.json").read_text())
elif "service/prometheus-server" in words:
    print(f"Forwarding from 127.0.0.1:{os.environ['FAKE_PROMETHEUS']} -> 9090", flush=True)
    time.sleep(60)
elif "port-forward" in words:
    job = next(i for i in json.loads((here / "applied.json").read_text())["items"] if i["kind"] == "Job")
    container = job["spec"]["template"]["spec"]["containers"][0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {e["name"]: e["value"] for e in container["env"]}
    ready = here / f"ready-{port}"
    env |= {"SLIPWAY_RELAY_PORT": str(port), "SLIPWAY_RELAY_READY": str(ready), "PATH": os.environ["PATH"]}
    with subprocess.Popen([sys.executable, *container["command"][1:]], env=env) as relay:
        while not ready.exists():
            time.sleep(0.02)
        print(f"Forwarding from 127.0.0.1:{port} -> 6380", flush=True)
        try:
            relay.wait()
        finally:
            relay.terminate()
