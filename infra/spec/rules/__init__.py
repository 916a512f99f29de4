"""Rules between fields: importing this package registers them all."""

from __future__ import annotations

from infra.spec.model import Spec
from infra.spec.problems import Problem
from infra.spec.rules import access, cloud, load, models, serving, stores
from infra.spec.rules.registry import RULES, Rule

__all__ = ["RULES", "Rule", "access", "check", "cloud", "load", "models", "serving", "stores"]


def check(spec: Spec) -> list[Problem]:
    """Every problem that the rules find in a specification that parsed."""
    return [p for r in RULES for p in r.check(spec)]
