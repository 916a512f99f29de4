"""What the Python stub of a Triton on this machine needs in its environment: the libpython of our own Python."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from pathlib import Path


def environment() -> Mapping[str, str]:
    """LD_LIBRARY_PATH, where our Python brings its own libpython; PATH is the renderer's.

    The stub finds site-packages only through the first `python3` on PATH (PYTHONPATH and VIRTUAL_ENV do nothing). The
    standard library is that Python's as well, so the libpython must be too: with the system's libpython 3.11.2 and the
    standard library of 3.11.7, `import ssl` fails on a missing symbol, and with it the Redis client (measured).
    """
    own = own_libpython()
    return {"LD_LIBRARY_PATH": str(own.parent)} if own else {}


def own_libpython() -> Path | None:
    """The shared library of the Python that runs us, or None where the loader finds it by itself or there is none."""
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if not folder or not name or ".so" not in name or Path(folder).is_relative_to("/usr/lib"):
        return None
    path = Path(folder) / name
    return path if path.exists() else None
