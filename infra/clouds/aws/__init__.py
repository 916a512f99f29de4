"""Amazon Web Services: EKS or EC2, with its own network. The SDK is loaded when a stack asks for a site, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.clouds.aws.machines import Machines as Machines
    from infra.clouds.aws.site import Site as Site

__all__ = ["Machines", "Site"]


def __getattr__(name: str) -> object:
    if name == "Site":
        from infra.clouds.aws.site import Site

        return Site
    if name == "Machines":
        from infra.clouds.aws.machines import Machines

        return Machines
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
