"""A container specification as user data of a virtual machine: cloud-config text, one for both clouds.

What differs by cloud is a row of vm_rows.csv; the work on the machine is done by serving/scripts/vm.sh.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from infra.plan import Plan, Pool
from infra.plan.facts import fact
from infra.spec import SpecError
from infra.spec.problems import Problem, problem
from serving import vm_files
from serving.container import ContainerSpec
from serving.facts import facts, rows
from serving.pod import Pod
from serving.vm_files import File, Host

HOME = vm_files.HOME
UNITS = "/etc/systemd/system"
SCRIPTS = Path(__file__).resolve().parent / "scripts"
HELPERS = {"gcp": ("cloud.sh", "vm_gcp.sh"), "aws": ("cloud.py", "vm_aws.py")}
WATCHED = ("aws",)  # its notice has to be asked for; the other cloud's is the order to stop itself
SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What others must know of a machine: the numbers of infra.clouds.machine_site.Boot, by its names."""

    ports: Mapping[str, int]
    ready_path: str
    startup_s: int
    drain_s: int
    spot_notice_s: int


def user_data(
    container: ContainerSpec,
    pool: Pool,
    *,
    cloud: str,
    env: Mapping[str, str] = {},
    secrets: Mapping[str, str] = {},
    log_group: str | None = None,
) -> str:
    """The machine's cloud-config. `env`: further plain variables of the server; `secrets`: variable -> address in the
    cloud's secret store, read at start with the machine's identity; `log_group`: where the server's words go (aws)."""
    if container.pod is None:
        raise ValueError(f"{container.name} was not made for machines")
    host = Host(cloud=cloud, kind=_kind(pool), values=_values(cloud, _kind(pool)), log_group=log_group)
    pod = _with_env(container.pod, env)
    own = replace(container, pod=pod)
    name, script = HELPERS[cloud]
    files = [
        File(path=f"{HOME}/vm.sh", text=(SCRIPTS / "vm.sh").read_text()),
        File(path=f"{HOME}/{name}", text=(SCRIPTS / script).read_text()),
        File(path=f"{HOME}/settings", text=vm_files.settings(host)),
        *vm_files.server(SERVER, own, host, secrets),
        *(File(path=f"{HOME}/config/{path}", text=text, mode="0644") for path, text in sorted(pod.config.items())),
    ]
    units = {f"slipway-{SERVER}.service": vm_files.server_unit(SERVER, container)}
    if cloud in WATCHED:
        units["slipway-watch.service"] = vm_files.watch_unit()
    files += [File(path=f"{UNITS}/{unit}", text=text, mode="0644") for unit, text in units.items()]
    return _cloud_config(files, list(units))


def _with_env(pod: Pod, env: Mapping[str, str]) -> Pod:
    """What the store's client needs goes to whoever has that client."""
    if not pod.sidecars:
        return replace(pod, env={**pod.env, **env})
    return replace(pod, sidecars=tuple(replace(s, env={**s.env, **env}) if s.secrets else s for s in pod.sidecars))


def boot(plan: Plan, pool: Pool, container: ContainerSpec) -> Numbers:
    """A machine's numbers, from the plan's budget and the container's own."""
    pod, ports = container.pod, container.ports
    assert pod is not None
    refused = [
        p for p in (_several(plan, pool), too_long(user_data(container, pool, cloud=plan.spec.cloud), plan)) if p
    ]
    if refused:
        raise SpecError(refused)
    return Numbers(
        ports={"http": int(ports.http), "grpc": int(ports.grpc), "metrics": int(ports.metrics)},
        ready_path=container.ready_path,
        startup_s=math.ceil(max(plan.serving.startup_budget_s, container.startup_s)),
        drain_s=pod.grace_s + facts("vm")["stop_margin_s"],
        spot_notice_s=int(fact("spot_notice", plan.spec)) if pool.capacity_type == "spot" else 0,
    )


def compressed(text: str) -> bytes:
    """The same bytes for the same text; cloud-init unpacks them."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def too_long(text: str, plan: Plan) -> Problem | None:
    """What the cloud would refuse; EC2 may be given the packed form."""
    cloud = plan.spec.cloud
    size, most = len(text.encode()), int(_values(cloud, "none")["user_data_bytes"])
    if size > most and cloud == "aws":
        size = len(compressed(text))
    if size <= most:
        return None
    reason = f"the machines' start-up data has {size} bytes, and {cloud} takes {most}"
    return problem(("models",), reason, to_fix="divide the models among stacks, or set shape to kubernetes")


def _several(plan: Plan, pool: Pool) -> Problem | None:
    if pool.replicas_per_node == 1:
        return None
    reason = f"{pool.replicas_per_node} servers on a machine were planned, and a machine runs one server"
    return problem(
        ("gpu_sharing", "strategy"), reason, allowed=("none",), to_fix="set shape to kubernetes to share one"
    )


def _kind(pool: Pool) -> str:
    if pool.tpu_topology is not None:
        return "tpu"
    return "none" if pool.accelerator == "none" else "gpu"


def _values(cloud: str, kind: str) -> Mapping[str, str]:
    found = {
        r["name"]: r["value"] for r in rows("vm_rows.csv") if r["cloud"] == cloud and r["accelerator"] in ("*", kind)
    }
    if "flags" not in found:
        raise ValueError(f"no rows of {cloud} machines with {kind} in vm_rows.csv")
    return found


def _cloud_config(files: list[File], units: list[str]) -> str:
    """`enable` before `start`, and nothing waited for: cloud-init's own end is what other units wait for."""
    document = {
        # an agent that the image of EC2 brings, and that would look for a cluster
        "bootcmd": [["sh", "-c", "systemctl mask --now ecs.service >/dev/null 2>&1 || :"]],
        "write_files": [
            {"path": f.path, "owner": "root:root", "permissions": f.mode, "content": f.text} for f in files
        ],
        "runcmd": [
            ["chmod", "0755", f"{HOME}/config"],
            ["systemctl", "daemon-reload"],
            *(["systemctl", "enable", unit] for unit in units),
            *(["systemctl", "start", "--no-block", unit] for unit in units),
        ],
    }
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000)
    return "#cloud-config\n" + text


class _Dumper(yaml.SafeDumper):
    """Text of many lines as it is read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
