"""The registry of the rules between fields: each a small function with its reason and its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.spec.model import Spec
from infra.spec.problems import Fix, Problem, Step, problem

Found = Iterator[Problem]
Check = Callable[[Spec], Found]

# Where a limit comes from; the texts stand in docs/configuration.md beside each rule.
TRITON = "triton-inference-server/server docs and source at 2.73.0dev, 2026-08-19"
TF_SERVING = "tensorflow/serving 2.20.0, source and issues, 2026-07-30"
GKE = "docs.cloud.google.com/kubernetes-engine, as read 2026-08"
TPU = "docs.cloud.google.com/tpu and keras-team/kinetic, 2026-08-20"
EKS = "awsdocs/amazon-eks-user-guide and botocore 1.44.5 models"
PROVIDER = "schemas of pulumi-gcp 10.2.0 and pulumi-aws 7.51.1"
SLIPWAY = "what Slipway builds"


@dataclass(frozen=True, kw_only=True)
class Rule:
    name: str
    reason: str
    source: str
    check: Check


RULES: list[Rule] = []


def rule(reason: str, source: str) -> Callable[[Check], Check]:
    """Registers a check; the reason is shown in the docs and stands in the message where it is not plain."""

    def register(check: Check) -> Check:
        assert all(r.name != check.__name__ for r in RULES), f"two rules named {check.__name__}"
        RULES.append(Rule(name=check.__name__, reason=reason, source=source, check=check))
        return check

    return register


def to(*steps: Step, value: object) -> Fix:
    """The fix that sets one value."""
    return Fix(steps=steps, value=value)


def no(*steps: Step) -> Fix:
    """The fix that takes one key away."""
    return Fix(steps=steps, op="remove")


__all__ = [
    "EKS",
    "GKE",
    "PROVIDER",
    "RULES",
    "SLIPWAY",
    "TF_SERVING",
    "TPU",
    "TRITON",
    "Found",
    "Rule",
    "no",
    "problem",
    "rule",
    "to",
]
