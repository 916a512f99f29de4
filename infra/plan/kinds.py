"""What the registry knows of clouds, stores and servers, as plain facts that the plan can check against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.spec import Problem, Spec
from infra.spec.problems import problem


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One store or server: where it cannot be used, each with the reason."""

    name: str
    unsupported: Mapping[str, str] = field(default_factory=dict)  # cloud -> why not, and what to use instead


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """What there is; an empty one checks nothing beyond the specification's own rules."""

    stores: Mapping[str, Kind] = field(default_factory=dict)
    servers: Mapping[str, Kind] = field(default_factory=dict)

    def problems(self, spec: Spec) -> list[Problem]:
        found = []
        for path, kinds, name in (
            ("feature_store", self.stores, spec.feature_store),
            ("server", self.servers, spec.server),
        ):
            reason = kinds[name].unsupported.get(spec.cloud) if name in kinds else None
            if reason:
                allowed = [k.name for k in kinds.values() if spec.cloud not in k.unsupported]
                found.append(problem((path,), f"{name} is not for cloud {spec.cloud}: {reason}", allowed=allowed))
        return found
