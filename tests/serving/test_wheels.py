"""The locked wheels of the stores' clients: the right ones for the image, fetched once, refused when they are not."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from infra.spec import SpecError
from serving import wheels
from serving.facts import rows
from tests.serving.test_triton_start import wheels_folder


def test_each_store_has_its_client_at_the_version_that_is_tested_here() -> None:
    """The contract tests run with this machine's packages: the servers must have the same client."""
    for client in {*wheels.CLIENTS.values(), "numpy"}:  # the image of Triton has numpy
        names = [r["file"] for r in rows("wheels.csv") if r["client"] == client]
        own = f"{client.replace('-', '_')}-{metadata.version(client)}-"
        assert [n for n in names if n.startswith(own)], own


def test_every_wheel_is_for_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and platform of the stock image: a wheel for another one imports there as nothing."""
    python = {r["python"] for r in rows("images.csv") if r["server"] == "triton"}
    assert python == {"3.12"}
    for row in rows("wheels.csv"):
        _, _, *_, interpreter, abi, platform = row["file"].removesuffix(".whl").split("-")
        assert "py3" in interpreter or interpreter.startswith("cp312") or abi == "abi3", row["file"]
        assert abi in wheels.ABIS
        assert "x86_64" in platform or platform == "any", row["file"]
        assert len(row["sha256"]) == 64


@pytest.mark.slow
def test_the_set_is_whole() -> None:
    """Each requirement of each wheel that holds on the image is in the set: nothing is left to what the image has."""
    from packaging.markers import default_environment
    from packaging.requirements import Requirement

    here = {**default_environment(), "python_version": "3.12", "python_full_version": "3.12.0", "extra": ""}
    folder = wheels_folder()  # of all tests: the sets are fetched from the package index once
    for store in ("memorystore", "bigtable", "firestore", "dynamodb"):
        files = wheels.fetched(store, folder)
        names = {f.split("-")[0].lower().replace("_", "-").replace(".", "-") for f in files}
        for file in files:
            with zipfile.ZipFile(folder / file) as wheel:
                meta = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
                text = wheel.read(meta).decode()
            for line in text.splitlines():
                if line.startswith("Requires-Dist: "):
                    wanted = Requirement(line.removeprefix("Requires-Dist: "))
                    if wanted.marker is None or wanted.marker.evaluate(here):
                        assert wanted.name.lower().replace("_", "-") in names, f"{file} needs {wanted}"


@pytest.mark.slow
def test_what_is_there_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels.fetched("memorystore", wheels_folder())
    monkeypatch.setattr(wheels, "_pip", lambda *words, folder: pytest.fail("pip was asked"))
    (only,) = wheels.fetched("elasticache", wheels_folder()).values()
    assert only.path is not None
    assert Path(only.path).is_file()


@pytest.mark.slow
def test_a_bundle_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    """Its digest is in the generation: two machines must agree on it."""
    here = wheels.bundle("dynamodb", wheels_folder())
    for name in wheels.fetched("dynamodb", wheels_folder()):
        (tmp_path / name).write_bytes((wheels_folder() / name).read_bytes())
    there = wheels.bundle("dynamodb", tmp_path)
    assert (there.sha256, there.size) == (here.sha256, here.size)
    assert there.path != here.path


@pytest.mark.slow
def test_a_wheel_with_another_content_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = wheels.fetched("memorystore", wheels_folder())
    (tmp_path / name).write_bytes(b"changed")
    monkeypatch.setattr(wheels, "_pip", lambda *words, folder: "no network")
    with pytest.raises(SpecError, match=r"could not be fetched.*no network"):
        wheels.fetched("memorystore", tmp_path)


@pytest.mark.slow
def test_the_client_imports_from_its_wheels_alone(tmp_path: Path) -> None:
    """As the model does it in the server: unpacked, first on the path, without what is installed here."""
    for store, module in (("memorystore", "redis"), ("dynamodb", "boto3")):
        for file in wheels.fetched(store, wheels_folder()):
            with zipfile.ZipFile(wheels_folder() / file) as wheel:
                wheel.extractall(tmp_path / store)
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / store)!r}); "
             f"import {module}; print({module}.__file__)"],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.stdout.startswith(str(tmp_path)), done.stderr[-500:]
