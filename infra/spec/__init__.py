"""Pure: what the user asked for, parsed once into frozen, typed values, with every problem reported together."""

from __future__ import annotations

from infra.spec.accelerator import Accelerator
from infra.spec.model import Batch, Features, GpuSharing, Load, Model, Profile, Slo, Spec, Tls
from infra.spec.parse import parse
from infra.spec.plain import to_values
from infra.spec.problems import Fix, Problem, SpecError, apply_fix

__all__ = [
    "Accelerator",
    "Batch",
    "Features",
    "Fix",
    "GpuSharing",
    "Load",
    "Model",
    "Problem",
    "Profile",
    "Slo",
    "Spec",
    "SpecError",
    "Tls",
    "apply_fix",
    "parse",
    "to_values",
]
