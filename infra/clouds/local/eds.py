"""Envoy's endpoint files, and what Envoy says of the endpoints in them."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from pathlib import Path

from infra.clouds.local.root import Inputs, Root, read_json, write_json

Target = Mapping[str, object]  # name, and a port for each cluster; `http` is also where health is checked


def endpoint_file(root: Root, cluster: str) -> Path:
    return root.path / "envoy" / f"{cluster}.json"


def write_endpoints(root: Root, cluster: str, targets: list[Target], draining: set[int]) -> None:
    """Written beside and renamed: Envoy watches for the move."""
    write_json(endpoint_file(root, cluster), assignment(cluster, targets, draining))


def assignment(cluster: str, targets: list[Target], draining: set[int]) -> Inputs:
    endpoints = [
        {
            "endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": target[cluster]}},
                "health_check_config": {"port_value": target["http"]},
                "hostname": target["name"],
            },
            "health_status": "DRAINING" if target["http"] in draining else "UNKNOWN",
        }
        for target in targets
    ]
    resource = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    return {"resources": [resource]}


def written(root: Root, clusters: list[str]) -> list[Target]:
    """The targets that the files hold now."""
    found: dict[str, dict[str, object]] = {}
    for cluster in clusters:
        content = read_json(endpoint_file(root, cluster))
        try:
            for entry in content["resources"][0]["endpoints"][0]["lb_endpoints"] if content else []:  # type: ignore[index]
                endpoint = entry["endpoint"]
                target = found.setdefault(endpoint["hostname"], {"name": endpoint["hostname"]})
                target[cluster] = endpoint["address"]["socket_address"]["port_value"]
        except (KeyError, IndexError, TypeError):
            continue  # edited by hand into something else: drift, and written anew
    return [t for t in found.values() if all(c in t for c in clusters)]


def hosts(admin_port: int) -> dict[tuple[str, int], dict[str, str]]:
    """(cluster, port) -> what Envoy knows of that endpoint; OSError when Envoy does not answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/clusters", timeout=2) as response:
        text = response.read().decode()
    found: dict[tuple[str, int], dict[str, str]] = {}
    for line in text.splitlines():
        parts = line.split("::")
        if len(parts) == 4 and parts[1].startswith("127.0.0.1:"):
            key = (parts[0], int(parts[1].rpartition(":")[2]))
            found.setdefault(key, {})[parts[2]] = parts[3]
    return found
