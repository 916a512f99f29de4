"""The fixture of the whole local stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stack_project import Project, make_project, stop_all, temporary


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    """A fresh project, with the configuration keys of the test's parameter."""
    with temporary() as folder:
        made = make_project(folder, **getattr(request, "param", {}))
        try:
            yield made
        finally:
            stop_all(made)
