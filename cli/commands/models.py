"""`slipway models`: versions of a stack's models in its buckets: push one, see them, go back to one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import USAGE, CliError
from cli.session import JSON, STACK, Globals, print_json

if TYPE_CHECKING:
    from cli.models.bucket import Bucket, Stored
    from cli.project import Project
    from infra.spec import Model, Spec
    from serving.repository import Layout

app = typer.Typer(help="Versions of the stack's models in its buckets.", no_args_is_help=True)
STATE = ".slipway/uploads.json"


@app.command()
def push(
    context: typer.Context,
    stack: STACK,
    sources: Annotated[
        list[str], typer.Argument(metavar="NAME=PATH...", help="A model of the stack and the file or folder to serve.")
    ],
    version: Annotated[
        int | None, typer.Option(min=1, help="Version that it becomes; by default the configured one.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Load it in the local Triton first, where there is one.")] = True,
) -> None:
    """Check local model files, lay them out as the server wants them, and upload them; a cut-off upload goes on.

    With another version than the configured one, the configuration is set to it when all files are there.
    """
    project, spec = _stack(context, stack)
    for index, source in _sources(spec, sources):
        model = spec.models[index]
        wanted = version if version is not None else model.version
        layout = _laid_out(spec, model, index, source, wanted)
        if check:
            _try(project, spec, index, source, wanted)
        bucket, prefix = _bucket(project, model)
        _upload(bucket, prefix, layout)
        if wanted != model.version:
            from cli.models.edit import write_version

            write_version(project.config_file(stack), index, wanted)
            typer.echo(f"{model.name}: the configuration says version {wanted} now, it said {model.version}")
    typer.echo(f"next: slipway up {stack}  (a new generation stands beside the old one until it is ready)")


@app.command("list")
def show(context: typer.Context, stack: STACK, as_json: JSON = False) -> None:
    """The versions of each model that are in its bucket, and which one the configuration serves."""
    project, spec = _stack(context, stack)
    rows = [row for model in _first(spec).values() for row in _rows(project, spec, model)]
    if as_json:
        print_json({"models": rows})
        return
    for row in rows:
        state = "served" if row["served"] else "" if row["complete"] else "incomplete"
        said = f"{row['files']} files, {row['mib']:.1f} MiB, {row['updated']}" if row["files"] else "nothing is there"
        typer.echo(f"{row['model']:<20} {row['version']:>6}  {said}  {state}".rstrip())


@app.command()
def rollback(
    context: typer.Context,
    stack: STACK,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    to: Annotated[int | None, typer.Option(min=1, help="Version; by default the one before the configured.")] = None,
) -> None:
    """Set the configuration to an earlier version that is whole in the bucket."""
    from cli.models.edit import write_version

    project, spec = _stack(context, stack)
    index = _index(spec, name)
    current = spec.models[index].version
    whole = [r["version"] for r in _rows(project, spec, spec.models[index]) if r["complete"]]
    earlier = [v for v in whole if v < current]
    chosen = to if to is not None else max(earlier, default=None)
    if chosen is None or chosen not in whole or chosen == current:
        there = ", ".join(str(v) for v in whole if v != current) or "none"
        raise CliError(f"{name}: no version {chosen or f'before {current}'} is whole in the bucket; there are: {there}")
    write_version(project.config_file(stack), index, chosen)
    typer.echo(f"{name}: the configuration says version {chosen} now, it said {current}")
    typer.echo(f"next: slipway up {stack}  (a new generation stands beside the old one until it is ready)")


def _stack(context: typer.Context, stack: str) -> tuple[Project, Spec]:
    from cli import plans
    from cli.project import find

    given: Globals = context.obj or Globals()
    project = find(given.project)
    project.must_exist(stack)
    return project, plans.specification(project, stack, {})


def _first(spec: Spec) -> dict[str, Model]:
    return {m.name: m for m in reversed(spec.models)}


def _index(spec: Spec, name: str) -> int:
    names = [m.name for m in spec.models]
    if name not in names:
        raise CliError(f"{name}: is no model of the stack; allowed: {', '.join(dict.fromkeys(names))}", USAGE)
    if names.count(name) > 1:
        raise CliError(
            f"{name}: stands in {names.count(name)} versions. To fix: set the versions and labels by hand", USAGE
        )
    return names.index(name)


def _sources(spec: Spec, given: list[str]) -> list[tuple[int, Path]]:
    wrong = [f"{g}: is not of the form NAME=PATH" for g in given if not all(g.partition("=")[::2])]
    if wrong:
        raise CliError(wrong, USAGE)
    pairs = [(name, Path(path)) for name, _, path in (g.partition("=") for g in given)]
    wrong = [f"{path}: there is no such file or folder" for _, path in pairs if not path.exists()]
    if wrong:
        raise CliError(wrong, USAGE)
    return [(_index(spec, name), path) for name, path in pairs]


def _laid_out(spec: Spec, model: Model, index: int, source: Path, version: int) -> Layout:
    from serving.repository import layout
    from serving.signature import NotServable

    try:
        return layout(spec, model, source, version)
    except NotServable as e:
        raise CliError(f"models[{index}] {model.name}: {source}: {e}") from None


def _try(project: Project, spec: Spec, index: int, source: Path, version: int) -> None:
    from cli.models import trial
    from infra.plan import make_plan
    from stacks import registry

    name = spec.models[index].name
    why = trial.possible(spec, index)
    if why is not None:
        typer.echo(f"{name}: not tried: {why}", err=True)
        return
    plan = make_plan(spec, registry.kinds(), registry.catalog(spec.cloud))
    alone = make_plan(trial.of(plan, index, source, version), registry.kinds(), registry.catalog(spec.cloud))
    unproven = trial.run(alone, name, project.folder)
    typer.echo(f"{name}: the local Triton loads it with the plan's settings and answers as the file does")
    for line in unproven:
        typer.echo(f"  not proven: {line}")


def _bucket(project: Project, model: Model) -> tuple[Bucket, str]:
    from cli.models.bucket import open_bucket

    return open_bucket(model.storage_uri, project.folder / STATE)


def _upload(bucket: Bucket, prefix: str, layout: Layout) -> None:
    """A version is never overwritten with something else: whoever serves it has the old one."""
    there = {o.key: o.size for o in bucket.list(f"{prefix}{layout.model.version}/")}
    differ = [
        key
        for name, content in layout.files.items()
        if (key := prefix + name) in there and bucket.digest(key) not in (None, content.sha256)
    ]
    if differ:
        raise CliError(
            f"{layout.model.name}: version {layout.model.version} is in the bucket with another content "
            f"({differ[0]}). To fix: push it as another version, with --version"
        )
    for name, content in layout.files.items():
        key = prefix + name
        assert content.path is not None
        if there.get(key) == content.size and bucket.digest(key) == content.sha256:
            typer.echo(f"  {key}: is there")
            continue

        def progress(done: int, key: str = key, size: int = content.size) -> None:
            part = 100 * done // size if size else 100
            typer.echo(f"  {key}: {part}% of {size / 2**20:.1f} MiB")

        try:
            bucket.upload(key, Path(content.path), content.sha256, progress)
        except OSError as e:
            raise CliError(f"{key}: cut off, {e}. To fix: the same command again, which goes on from there") from None


def _rows(project: Project, spec: Spec, model: Model) -> list[Mapping[str, Any]]:
    from cli.models.bucket import versions
    from serving.repository import main_file

    if "://" not in model.storage_uri:
        return []
    bucket, prefix = _bucket(project, model)
    found = versions(bucket.list(prefix), prefix)
    served = {m.version for m in spec.models if m.name == model.name}
    last = main_file(spec, model)
    return [_row(model, v, found.get(v, []), last, v in served) for v in sorted({*found, *served})]


def _row(model: Model, version: int, found: list[Stored], last: str, served: bool) -> Mapping[str, Any]:
    return {
        "model": model.name,
        "version": version,
        "served": served,
        "complete": any(o.key.endswith(f"/{version}/{last}") or o.key == f"{version}/{last}" for o in found),
        "files": len(found),
        "mib": sum(o.size for o in found) / 2**20,
        "updated": max((o.updated for o in found), default=""),
    }
