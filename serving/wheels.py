"""The stores' own clients for the servers' stock images: a locked set of wheels, fetched once and kept.

`python -m serving.wheels STORE` resolves a set anew and prints its rows for wheels.csv.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from infra.spec import SpecError
from infra.spec.problems import problem
from serving.container import FileContent
from serving.facts import rows

CLIENTS = {  # store -> what its client is called where packages are had
    "memorystore": "redis",
    "elasticache": "redis",
    "redis": "redis",
    "bigtable": "google-cloud-bigtable",
    "firestore": "google-cloud-firestore",
    "dynamodb": "boto3",
}
BUNDLE = "wheels.zip"  # beside the Python model, which unpacks it
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
ABIS = ("cp312", "abi3", "none")


def fetched(store: str, folder: Path, beside: Collection[str] = ()) -> Mapping[str, FileContent]:
    """Name -> wheel of a store's locked set; those that the folder lacks are fetched with pip. `beside`: other sets,
    of what the image lacks."""
    locked = [r for r in rows("wheels.csv") if r["client"] in (CLIENTS[store], *beside)]
    missing = [r for r in locked if not _right(folder / r["file"], r["sha256"])]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{_requirement(r['file'])} --hash=sha256:{r['sha256']}\n" for r in missing)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(lines)
            file.flush()
            told = _pip("--require-hashes", "--no-deps", "--requirement", file.name, folder=folder)
        wrong = [r["file"] for r in missing if not _right(folder / r["file"], r["sha256"])]
        if wrong:
            raise _unfetched(store, wrong, told)
    return {
        r["file"]: FileContent(
            path=str(folder / r["file"]), sha256=r["sha256"], size=(folder / r["file"]).stat().st_size
        )
        for r in locked
    }


def bundle(store: str, folder: Path, beside: Collection[str] = ()) -> FileContent:
    """The set as one file, the same for the same set wherever it is made."""
    wheels = fetched(store, folder, beside)
    digest = hashlib.sha256("".join(sorted(w.sha256 for w in wheels.values())).encode()).hexdigest()[:12]
    path = folder / f"{CLIENTS[store]}-{digest}.zip"
    if not path.is_file():
        part = path.with_suffix(f".{os.getpid()}.part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
            for name in sorted(wheels):
                file.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
        part.rename(path)
    return FileContent(path=str(path), sha256=_digest(path), size=path.stat().st_size)


def lock(client: str) -> list[str]:
    """Rows of wheels.csv for a client, at the version that this machine has of it."""
    with tempfile.TemporaryDirectory() as place:
        told = _pip(f"{client}=={metadata.version(client)}", folder=Path(place))
        found = sorted(Path(place).glob("*.whl"))
        if not found:
            raise SystemExit(f"{client}: {told}")
        today = datetime.now(UTC).date().isoformat()
        return [f"{client},{w.name},{_digest(w)},pip download for Python 3.12,{today}" for w in found]


def _pip(*words: str, folder: Path) -> str:
    """What pip says, where it fails; it fetches for the image's Python, not for this one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *words]
    command += ["--only-binary", ":all:", "--python-version", "3.12", "--implementation", "cp", "--dest", str(folder)]
    command += [w for p in PLATFORMS for w in ("--platform", p)] + [w for a in ABIS for w in ("--abi", a)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()[-500:]


def _unfetched(store: str, wrong: list[str], told: str) -> SpecError:
    return SpecError(
        [
            problem(
                ("feature_store",),
                f"{store}: its client for the servers could not be fetched ({', '.join(wrong[:3])}): {told}",
                to_fix="run it where packages can be had, or set feature_store to none",
            )
        ]
    )


def _requirement(wheel: str) -> str:
    name, version = wheel.split("-")[:2]
    return f"{name.replace('_', '-')}=={version}"


def _right(path: Path, sha256: str) -> bool:
    return path.is_file() and _digest(path) == sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    print("\n".join(lock(sys.argv[1])))
