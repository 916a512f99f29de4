"""Sets a value at a property path, making the objects and lists on the way."""

from __future__ import annotations

import copy
import itertools
from typing import cast

from simulators.core import paths
from simulators.core.values import Json, Properties


def put(target: Properties, path: str, value: object) -> None:
    """None removes."""
    steps = paths.parse(path)
    here: Json = target
    for step, following in itertools.pairwise(steps):
        empty: Json = [] if isinstance(following, int) else {}
        if isinstance(here, dict):
            if not isinstance(here.get(str(step)), dict | list):
                here[str(step)] = empty
            here = here[str(step)]
        elif isinstance(here, list) and isinstance(step, int):
            while len(here) <= step:
                here.append(copy.deepcopy(empty))
            here = here[step]
    last = steps[-1]
    if isinstance(here, dict):
        if value is None:
            here.pop(str(last), None)
        else:
            here[str(last)] = cast("Json", value)
    elif isinstance(here, list) and isinstance(last, int):
        if value is None:
            del here[last : last + 1]
        elif last < len(here):
            here[last] = cast("Json", value)
        else:
            here.append(cast("Json", value))
