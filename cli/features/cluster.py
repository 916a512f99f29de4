"""The way to a store inside a cluster's network: a relay Job, a port forwarded to it, and the servers' own secrets."""

from __future__ import annotations

import json
import os
import re
import secrets as random
import shlex
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.errors import USAGE, CliError
from infra.plan.flows import SERVING, SYSTEM
from serving.kubernetes import SERVER
from serving.kubernetes_relay import NAME, PORT, relay

READY_S = 180
PROMETHEUS, PROMETHEUS_PORT = "prometheus-server", 9090
COUNTERS = 'sum by (__name__) ({__name__=~"slipway_feature_.+_total"})'
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")  # where a store has its address
VARIABLES = {"SLIPWAY_STORE_PASSWORD": "password", "SLIPWAY_STORE_CA": "ca"}
FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@contextmanager
def relayed(
    stack: str, url: str, command: str, image: str, tell: Callable[[str], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """A port of this machine that reaches the store, and its secrets. `command` writes a kubeconfig; the user's own
    stays as it is."""
    if shutil.which("kubectl") is None:
        raise CliError(
            f"{url} answers inside the cluster's network alone, and there is no `kubectl` on PATH to reach it. "
            "To fix: install kubectl",
            USAGE,
        )
    with _access(command) as env:
        found = _secrets(env)
        parts, name = urllib.parse.urlsplit(url), f"{NAME}-{random.token_hex(4)}"
        host, port = str(parts.hostname), parts.port or 6379
        objects = relay(stack=stack, name=name, image=image, host=host, port=port, ranges=PRIVATE)
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        tell(f"relay {name}: starting in the cluster")
        try:
            _kubectl(env, "apply", "-f", "-", given=items)
            _ready(env, name)
            with _forwarded(env, SERVING, f"job/{name}", PORT) as here:
                tell(f"relay {name}: 127.0.0.1:{here} reaches {host}:{port}")
                yield here, found
        finally:
            _kubectl(env, "delete", "-f", "-", "--ignore-not-found", "--wait=false", given=items)


@contextmanager
def _access(command: str) -> Iterator[dict[str, str]]:
    """The environment of `kubectl`, with a kubeconfig of its own."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        env = {**os.environ, "KUBECONFIG": str(Path(folder) / "kubeconfig")}
        _run(shlex.split(command), env)
        yield env


def counters(command: str) -> dict[str, float]:
    """What the look-ups of all servers counted, as Prometheus has it: names without their prefix."""
    with _access(command) as env, _forwarded(env, SYSTEM, f"service/{PROMETHEUS}", PROMETHEUS_PORT) as here:
        asked = urllib.parse.urlencode({"query": COUNTERS})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{here}/api/v1/query?{asked}", timeout=30) as answer:
                said = json.load(answer)
        except OSError as e:
            raise CliError(f"Prometheus does not answer: {e}") from e
    return {
        row["metric"]["__name__"].removeprefix("slipway_feature_").removesuffix("_total"): float(row["value"][1])
        for row in said["data"]["result"]
    }


def _secrets(env: Mapping[str, str]) -> dict[str, str]:
    """What the servers are given: plain values of a Deployment of theirs, and out of the Secret that it names."""
    selector = f"app.kubernetes.io/name={SERVER}"
    listed = json.loads(_kubectl(env, "-n", SERVING, "get", "deployments", "-l", selector, "-o", "json"))
    if not listed["items"]:
        raise CliError("no server stands in the cluster, which would say how the store is reached. To fix: slipway up")
    container = listed["items"][0]["spec"]["template"]["spec"]["containers"][0]
    found: dict[str, str] = {}
    for variable in container["env"]:
        word = VARIABLES.get(variable["name"])
        if word is None:
            continue
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        found[word] = _opened(env, reference) if reference else str(variable["value"])
    return found


def _opened(env: Mapping[str, str], reference: Mapping[str, str]) -> str:
    import base64

    secret = json.loads(_kubectl(env, "-n", SERVING, "get", "secret", reference["name"], "-o", "json"))
    return base64.b64decode(secret["data"][reference["key"]]).decode()


def _ready(env: Mapping[str, str], name: str) -> None:
    """Else the reason that the cluster gives."""
    pods = ("-n", SERVING, "-l", f"job-name={name}", f"--timeout={READY_S}s")
    try:
        _kubectl(env, "wait", "--for=create", "pod", *pods)
        _kubectl(env, "wait", "--for=condition=Ready", "pod", *pods)
    except CliError as e:
        said = json.loads(_kubectl(env, "-n", SERVING, "get", "pods", "-l", f"job-name={name}", "-o", "json"))
        why = [c["message"] for p in said["items"] for c in p["status"].get("conditions", ()) if c.get("message")]
        raise CliError([f"relay {name} did not start within {READY_S} s", *(f"  {w}" for w in why)]) from e


@contextmanager
def _forwarded(env: Mapping[str, str], namespace: str, target: str, port: int) -> Iterator[int]:
    command = ["kubectl", "-n", namespace, "port-forward", "--address", "127.0.0.1", target, f":{port}"]
    with subprocess.Popen(
        command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = FORWARDED.search(line)
            if found is None:
                raise CliError(f"kubectl port-forward: {line.strip() or 'ended without a word'}")
            yield int(found[1])
        finally:
            process.terminate()


def _kubectl(env: Mapping[str, str], *arguments: str, given: str | None = None) -> str:
    return _run(["kubectl", *arguments], env, given)


def _run(command: list[str], env: Mapping[str, str], given: str | None = None) -> str:
    try:
        done: Any = subprocess.run(
            command, env=dict(env), input=given or "", capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise CliError(f"no `{command[0]}` on PATH, which reaches the cluster. To fix: install it", USAGE) from None
    if done.returncode:
        raise CliError(f"{shlex.join(command[:6])}: {done.stderr.strip()[-500:]}")
    return str(done.stdout)
