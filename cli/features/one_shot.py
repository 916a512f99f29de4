"""The way to a store inside a network of Compute Engine: a small machine that carries connections, for one command.

Identity-Aware Proxy forwards to a machine's own ports alone, and the servers run no SSH. The machine bears the servers'
network tag, whose rules let the proxy in and the store out, has no address, no identity and no password, and is deleted
by the command; what the command forgets is deleted by Compute Engine when its time is over.
"""

from __future__ import annotations

import re
import secrets as random
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cli.errors import USAGE, CliError
from serving.facts import facts
from serving.sync import SCRIPTS

FIREWALL, GROUP = "gcp:compute/firewall:Firewall", "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
SUBNET, SECRET = "gcp:compute/subnetwork:Subnetwork", "gcp:secretmanager/secret:Secret"
OPERATORS = "operators-servers"  # the rule that lets Identity-Aware Proxy in
PROXIES = "purpose"  # a field of subnets that no machine stands in
LISTENS = re.compile(r"Listening on port \[(\d+)\]")
MACHINE, IMAGE = "e2-small", ("debian-12", "debian-cloud")  # its image has a Python
READY_S, EVERY_S = 300.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the machine stands, out of the stack's own state."""

    stack: str
    project: str
    zone: str
    subnet: str
    tag: str
    port: str  # that the operators' rule opens


def place(stack: str, resources: list[dict[str, Any]]) -> Place:
    def first(kind: str, name: str = "") -> dict[str, Any]:
        for resource in resources:
            given = resource.get("inputs", {})
            if (
                resource["type"] == kind
                and resource["urn"].endswith(f"::{name}" if name else "")
                and PROXIES not in given
            ):
                return {**given, "id": resource.get("id", "")}
        raise CliError(f"stack '{stack}': no {kind} {name} in its state. To fix: slipway up {stack}")

    rule, group, subnet = first(FIREWALL, OPERATORS), first(GROUP), first(SUBNET)
    return Place(
        stack=stack,
        project=str(subnet["id"]).split("/")[1],
        zone=str(group["distributionPolicyZones"][0]),
        subnet=str(subnet["id"]),
        tag=str(rule["targetTags"][0]),
        port=str(rule["allows"][0]["ports"][0]),
    )


def store_secrets(project: str, resources: list[dict[str, Any]]) -> dict[str, str]:
    """The certificates that the state has, and the password out of Secret Manager, for who may read it there."""
    found: dict[str, str] = {}
    for resource in resources:
        said = resource.get("outputs", {})
        plain = [c.get("cert", "") for c in said.get("serverCaCerts") or []]
        chains = [chain for ca in said.get("managedServerCas") or [] for chain in ca.get("caCerts") or []]
        certificates = [*plain, *(c for chain in chains for c in chain.get("certificates") or [])]
        if certificates:
            found["ca"] = "\n".join(certificates)
        if resource["type"] == SECRET and resource["urn"].endswith("::store-password"):
            name = str(resource["id"]).rpartition("/")[2]
            wanted = ("versions", "access", "latest", f"--secret={name}", f"--project={project}")
            found["password"] = _gcloud("secrets", *wanted)
    return found


@contextmanager
def carried(where: Place, url: str, tell: Callable[[str], None]) -> Iterator[int]:
    """A port of this machine that reaches the store."""
    if shutil.which("gcloud") is None:
        raise CliError(
            f"{url} answers inside the stack's network alone, and there is no `gcloud` on PATH to reach it. To fix: "
            "install the Google Cloud CLI",
            USAGE,
        )
    parts, name = urlsplit(url), f"{where.stack[:40]}-relay-{random.token_hex(3)}"
    at = (f"--zone={where.zone}", f"--project={where.project}")
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write(_script(f"{parts.hostname}:{parts.port}", where.port))
        script.flush()
        tell(f"machine {name} ({MACHINE}): starting in {where.zone}; it is deleted at the end of this command")
        try:
            _gcloud("compute", "instances", "create", name, *at, *_machine(where, script.name))
            with _tunnel(name, where, at) as port:
                tell(f"machine {name}: 127.0.0.1:{port} reaches {parts.hostname}:{parts.port}")
                yield port
        finally:
            _gcloud("compute", "instances", "delete", name, *at, "--quiet")


def _machine(where: Place, script: str) -> list[str]:
    return [
        f"--machine-type={MACHINE}",
        f"--image-family={IMAGE[0]}",
        f"--image-project={IMAGE[1]}",
        f"--subnet={where.subnet}",
        f"--tags={where.tag}",
        f"--labels=slipway-stack={where.stack},slipway-role=relay",
        "--no-address",
        "--no-service-account",
        "--no-scopes",
        "--shielded-secure-boot",
        f"--max-run-duration={facts('relay')['longest_s']}s",
        "--instance-termination-action=DELETE",
        f"--metadata-from-file=startup-script={script}",
    ]


def _script(to: str, port: str) -> str:
    env: Mapping[str, str] = {
        "SLIPWAY_RELAY_TO": to,
        "SLIPWAY_RELAY_PORT": port,
        "SLIPWAY_RELAY_ADDRESS": "0.0.0.0",
        "SLIPWAY_RELAY_READY": "/run/slipway-relay",
    }
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in env.items())
    return f"#!/bin/sh\n{exports}exec python3 -c {shlex.quote((SCRIPTS / 'relay.py').read_text())}\n"


@contextmanager
def _tunnel(name: str, where: Place, at: tuple[str, ...]) -> Iterator[int]:
    """The proxy refuses until the machine listens: asked again until it does."""
    command = ["gcloud", "compute", "start-iap-tunnel", name, where.port, "--local-host-port=localhost:0", *at]
    until = time.monotonic() + READY_S
    while True:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            said: list[str] = []
            try:
                for line in process.stdout:
                    said.append(line.strip())
                    found = LISTENS.search(line)
                    if found is not None:
                        yield int(found[1])
                        return
            finally:
                process.terminate()
        if time.monotonic() > until:
            raise CliError(f"machine {name} does not answer after {READY_S:.0f} s: {' '.join(said)[-400:]}")
        time.sleep(EVERY_S)


def _gcloud(*arguments: str) -> str:
    done = subprocess.run(["gcloud", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise CliError(f"gcloud {' '.join(arguments[:4])}: {done.stderr.strip()[-500:]}")
    return done.stdout
