"""The arrows of the house, kept by reading every import: who may import whom, and who may look at a mode."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("stacks", "infra", "serving", "engine", "simulators", "cli")
PURE = ("infra.spec", "infra.catalog", "infra.plan", "infra.charts")
IMPURE_MODULES = {
    "pulumi",
    "os",
    "time",
    "socket",
    "subprocess",
    "urllib",
    "requests",
    "aiohttp",
    "grpc",
    "redis",
    "boto3",
    "random",
}
ALLOWED = {  # room -> the rooms of the house it may import, itself always included
    "infra.spec": {"infra.spec"},
    "infra.catalog": {"infra.catalog"},
    "infra.plan": {"infra.plan", "infra.spec", "infra.catalog"},
    "infra.charts": {"infra.charts", "infra.plan", "infra.spec", "infra.catalog"},
    "infra.clouds": {"infra.clouds", "infra.plan", "infra.spec", "infra.catalog"},
    "infra.stores": {"infra.stores", "infra.clouds", "infra.plan", "infra.spec", "infra.catalog"},
    "infra.plugin": {"infra.plugin", "infra.clouds"},
    "serving": {"serving", "infra.plan", "infra.spec", "infra.catalog"},
    "stacks": {
        "stacks",
        "serving",
        "infra.charts",
        "infra.clouds",
        "infra.stores",
        "infra.plan",
        "infra.spec",
        "infra.catalog",
    },
    "engine": {"engine"},
    "simulators": {"simulators"},
}
MODE_WORDS = {"horizontal", "vertical", "economy", "balanced", "performance"}


def sources(package: str) -> Iterator[Path]:
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        if "/samples/" not in path.as_posix() and "/triton_models/" not in path.as_posix():
            yield path


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    here = module(path)
    package = here if path.name == "__init__.py" else here.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            name = ".".join(x for x in (base, node.module) if x)
            yield name, node.lineno
            for alias in node.names:
                yield f"{name}.{alias.name}", node.lineno


def room(name: str) -> str | None:
    """The longest room of the house that holds a module, or None for a library."""
    if name.split(".")[0] not in PACKAGES:
        return None
    rooms = [r for r in (*ALLOWED, "cli") if name == r or name.startswith(r + ".")]
    return max(rooms, key=len) if rooms else name


@pytest.mark.parametrize("here", sorted(ALLOWED))
def test_arrows(here: str) -> None:
    """A room imports only the rooms its arrows point to: a sideways import ties two decisions together."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(here)
        if room(module(path)) == here
        for name, line in imports(path)
        if (target := room(name)) is not None and target not in ALLOWED[here] and target != "infra"
    ]
    assert not wrong


@pytest.mark.parametrize("here", PURE)
def test_pure_rooms_touch_nothing(here: str) -> None:
    """Same configuration and catalogue, same plan: no Pulumi, network, clock or environment."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(here)
        for name, line in imports(path)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    assert not wrong


def test_one_reader_of_configuration() -> None:
    """stacks/config.py alone reads pulumi.Config, and stacks/outputs.py alone exports."""
    wrong = []
    for path in sources("stacks"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("Config", "export"):
                owner = {"Config": "config.py", "export": "outputs.py"}[node.attr]
                if isinstance(node.value, ast.Name) and node.value.id == "pulumi" and path.name != owner:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: pulumi.{node.attr}")
    assert not wrong


def test_modes_are_decided_once() -> None:
    """Below infra/plan/modes.py there are numbers: no other module compares anything with the name of a mode."""
    wrong = []
    for package in ("stacks", "infra", "serving"):
        for path in sources(package):
            if module(path) == "infra.plan.modes" or module(path).startswith("infra.spec"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                operands: list[ast.expr] = []
                if isinstance(node, ast.Compare):
                    operands = [node.left, *node.comparators]
                elif isinstance(node, ast.MatchValue):
                    operands = [node.value]
                for operand in operands:
                    for leaf in ast.walk(operand):
                        word = (
                            leaf.value
                            if isinstance(leaf, ast.Constant)
                            else leaf.attr
                            if isinstance(leaf, ast.Attribute)
                            else None
                        )
                        if isinstance(word, str) and word.lower() in MODE_WORDS:
                            wrong.append(
                                f"{path.relative_to(ROOT)}:{node.lineno if hasattr(node, 'lineno') else '?'}: {word}"
                            )
    assert not wrong


def test_files_and_functions_stay_small() -> None:
    """A file over 300 lines has a second room in it, a function over 50 a second job."""
    wrong = []
    for package in PACKAGES:
        for path in sources(package):
            text = path.read_text()
            if len(text.splitlines()) > 300:
                wrong.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                    length = node.end_lineno - node.lineno + 1
                    if length > 50:
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {length} lines")
    assert not wrong


def test_every_module_says_its_role() -> None:
    """The first line of a module is its role."""
    missing = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in sources(package)
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not missing


def test_no_dead_rules() -> None:
    """The rooms named above exist: a rule about a folder that is gone can never fail."""
    assert [r for r in ALLOWED if r != "infra.plugin" and not (ROOT / r.replace(".", "/")).is_dir()] == []
