"""What a provider does before the cloud is asked: defaults, refusals while checking and planning, configuration."""

from __future__ import annotations

from simulators.core import configuration, paths, rules, schema, tables, templates
from simulators.core.edits import put
from simulators.core.lifecycle import Target
from simulators.core.rules import Problem
from simulators.core.values import DEFAULTS, Properties, plain_properties


def fill_defaults(target: Target, token: str, inputs: Properties) -> None:
    """What Check adds, in place; named in `__defaults` as the Terraform bridge does."""
    if target.cloud == "kubernetes":
        return
    if not tables.exists(f"defaults_{target.cloud}"):
        return
    filled: list[str] = []
    for row in tables.of_type("defaults", token)[0]:
        steps = paths.parse(row["path"])
        if row["phase"] == "check" and len(steps) == 1 and row["path"] not in inputs:
            put(inputs, row["path"], templates.typed(row["value"]))
            filled.append(row["path"])
    if filled:
        before = inputs.get(DEFAULTS)
        inputs[DEFAULTS] = [*(before if isinstance(before, list) else []), *filled]


def check(token: str, inputs: Properties) -> tuple[Problem, ...]:
    """Refused by the provider itself. pulumi-kubernetes leaves nearly all to the API server's dry run."""
    given = plain_properties(inputs)
    found = list(rules.problems(token, given, "check"))
    if not token.startswith("kubernetes:"):
        found += schema.problems(token, given, strict=False)
    return tuple({p.path: p for p in reversed(found)}.values())


def preview(token: str, inputs: Properties) -> tuple[Problem, ...]:
    """Refused while planning: by the provider's plan, or by the API server's dry run, which ignores unknown names."""
    given = plain_properties(inputs)
    found = list(rules.problems(token, given, "preview"))
    if token.startswith("kubernetes:"):
        found += [p for p in schema.problems(token, given, strict=True) if "unknown property" not in p.reason]
    return tuple(dict.fromkeys(found))


def config_problems(cloud: str, config: Properties) -> list[Problem]:
    """A rehearsal has no ambient configuration, so what the real provider would take from the machine must be there."""
    given = configuration.values(config)
    needed = {"gcp": ("project",), "aws": ("region",), "kubernetes": ("kubeconfig",)}[cloud]
    return [
        Problem(path=name, reason=f"must be set: a simulated {cloud} takes nothing from the environment")
        for name in needed
        if not given.get(name)
    ]


def config_changes(cloud: str, old: Properties, new: Properties) -> tuple[list[str], list[str]]:
    """(changed, replacing): a Kubernetes provider is replaced when its cluster becomes another one."""
    before, after = configuration.values(old), configuration.values(new)
    changed = sorted(k for k in set(before) | set(after) if before.get(k) != after.get(k) and k != "version")
    if cloud != "kubernetes":
        return changed, []
    if before.get("clusterIdentifier") and after.get("clusterIdentifier"):
        return changed, ["clusterIdentifier"] if "clusterIdentifier" in changed else []
    moved = configuration.server(before) != configuration.server(after)
    return changed, ["kubeconfig"] if "kubeconfig" in changed and moved else []


def top(path: str) -> str:
    return str(paths.parse(path)[0])
