"""Amazon Web Services: EKS with its own network. The SDK is loaded when a stack asks for the site, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.clouds.aws.site import Site as Site

__all__ = ["Site"]


def __getattr__(name: str) -> object:
    if name != "Site":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from infra.clouds.aws.site import Site

    return Site
