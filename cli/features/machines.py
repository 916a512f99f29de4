"""The way to a store inside a network of virtual machines: through one of the servers, by Session Manager."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from cli.errors import USAGE, CliError

OPENED = re.compile(r"Port (\d+) opened")
DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
PLUGIN = "docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"


@contextmanager
def by_session_manager(
    stack: str, url: str, region: str, secret: str, tell: Callable[[str], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """A port of this machine that reaches the store over a server of the stack, and its password."""
    missing = [tool for tool in ("aws", "session-manager-plugin") if shutil.which(tool) is None]
    if missing:
        raise CliError(
            f"{url} answers inside the stack's network alone, and {' and '.join(missing)} to reach it are not on PATH. "
            f"To fix: install the AWS CLI and its plugin ({PLUGIN})",
            USAGE,
        )
    import boto3

    session = boto3.Session(region_name=region)
    machine, parts = _machine(session.client("ec2"), stack), urlsplit(url)
    found: dict[str, str] = {}
    if secret:
        about = session.client("ssm").get_parameter(Name=secret, WithDecryption=True)
        found["password"] = str(about["Parameter"]["Value"])
    asked = {"host": [parts.hostname], "portNumber": [str(parts.port)], "localPortNumber": ["0"]}
    command = ["aws", "ssm", "start-session", "--region", region, "--target", machine, "--document-name", DOCUMENT]
    with subprocess.Popen(
        [*command, "--parameters", json.dumps(asked)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            port = _opened(process)
            tell(f"machine {machine}: 127.0.0.1:{port} reaches {parts.hostname}:{parts.port}")
            yield port, found
        finally:
            process.terminate()


def _opened(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.strip())
        found = OPENED.search(line)
        if found is not None:
            return int(found[1])
    raise CliError(f"aws ssm start-session: {' '.join(x for x in said if x)[-500:] or 'ended without a word'}")


def _machine(client: Any, stack: str) -> str:
    """One of the stack's own that runs."""
    filters = [
        {"Name": "tag:slipway-stack", "Values": [stack]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    for page in client.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                return str(instance["InstanceId"])
    raise CliError(f"no machine of stack '{stack}' runs, over which its store could be reached. To fix: slipway up")
