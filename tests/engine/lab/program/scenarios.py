"""Scenarios that say what an engine must do: lists of steps, each a command and the program that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi import Alias, CustomTimeouts, Output
from pulumi import ResourceOptions as Opts

OUTPUTS: dict[str, Any] = {"serial": None, "key": None}


class Box(pulumi.CustomResource):
    serial: Output[str]
    key: Output[str]
    content: Output[Any]

    def __init__(self, name: str, opts: Opts | None = None, kind: str = "Box", **inputs: Any) -> None:
        super().__init__(f"lab:index:{kind}", name, {**OUTPUTS, "content": None, **inputs}, opts)


class Crate(pulumi.ComponentResource):
    """A component with boxes in it, and maybe a crate."""

    def __init__(
        self, name: str, boxes: Sequence[str], opts: Opts | None = None, inner: Sequence[str] = (), **inputs: Any
    ) -> None:
        super().__init__("lab:index:Crate", name, {}, opts)
        self.boxes = [Box(f"{name}-{box}", Opts(parent=self), **inputs) for box in boxes]
        if inner:
            Crate(f"{name}-inner", inner, Opts(parent=self), **inputs)
        self.register_outputs({"count": len(boxes), "first": self.boxes[0].serial})


class Lab(pulumi.ProviderResource):
    def __init__(self, name: str, opts: Opts | None = None, **config: Any) -> None:
        super().__init__("lab", name, config, opts)


@dataclass(kw_only=True)
class Step:
    program: Callable[[], object] = lambda: None
    cmd: str = "up"
    flags: list[str] = field(default_factory=list)
    fails: bool = False
    shelf: Mapping[str, Mapping[str, Any] | None] | None = None  # before the step, by name: inputs to change, or gone
    found: Mapping[str, Any] | None = None  # before the step: a thing `id-900` that nobody declared


def up(program: Callable[[], object], *flags: str, **more: Any) -> Step:
    return Step(program=program, flags=list(flags), **more)


def destroy(*flags: str, **more: Any) -> Step:
    return Step(cmd="destroy", flags=list(flags), **more)


def preview(program: Callable[[], object], **more: Any) -> Step:
    return Step(program=program, cmd="preview", **more)


def refresh(**more: Any) -> Step:
    return Step(cmd="refresh", **more)


SCENARIOS: dict[str, list[Step]] = {}


def line(content: Any = 1, shape: str = "round", **of_first: Any) -> None:
    """first <- second <- third, the last by depends_on."""
    first = Box("first", content=content, shape=shape, **of_first)
    second = Box("second", content=first.serial)
    Box("third", Opts(depends_on=[second]), content="x")


SCENARIOS["life"] = [
    preview(lambda: line()),
    up(lambda: line()),
    up(lambda: line(), "--expect-no-changes"),
    up(lambda: line(2)),
    preview(lambda: line(2, "square")),
    destroy(),
    destroy(),
]
SCENARIOS["replaced_before_it_is_deleted"] = [up(lambda: line()), up(lambda: line(1, "square"))]


def slots(slot: str, *, also: bool = False, protect: bool = False, **opts: Any) -> None:
    base = Box("base", Opts(**opts), slot=slot)
    Box("beside", content=1)
    Box("user", content=base.serial)
    if also:
        goes = Box("goes", Opts(protect=protect), shape=base.serial)
        Box("last", content=goes.serial)


SCENARIOS["deleted_before_it_is_replaced"] = [up(lambda: slots("1")), up(lambda: slots("2"))]
SCENARIOS["deleted_first_with_what_it_replaces"] = [
    up(lambda: slots("1", also=True)),
    up(lambda: slots("2", also=True)),
]
SCENARIOS["deleted_first_and_not_declared_again"] = [up(lambda: slots("1", also=True)), up(lambda: slots("2"))]
SCENARIOS["protected_dependant_stops_the_replacement"] = [
    up(lambda: slots("1", also=True, protect=True)),
    up(lambda: slots("2", also=True, protect=True), fails=True),
]
SCENARIOS["create_first_stated"] = [
    up(lambda: slots("1", delete_before_replace=False)),
    up(lambda: slots("2", delete_before_replace=False)),
]
SCENARIOS["delete_first_stated"] = [
    up(lambda: Box("a", Opts(delete_before_replace=True), shape="1")),
    up(lambda: Box("a", Opts(delete_before_replace=True), shape="2")),
]


def guarded(protect: bool = True, shape: str = "1", keep: bool = True) -> None:
    Box("free", content=1)
    if keep:
        kept = Box("kept", Opts(protect=protect), shape=shape)
        Box("user", content=kept.serial)


SCENARIOS["protect"] = [
    up(lambda: guarded()),
    destroy(fails=True),
    up(lambda: guarded()),
    up(lambda: guarded(shape="2"), fails=True),
    up(lambda: guarded(keep=False), fails=True),
    up(lambda: guarded(False, "2")),
    destroy(),
]


def options(changed: bool = False) -> None:
    n = 2 if changed else 1
    Box(
        "ignored",
        Opts(ignore_changes=["content", "conf.size", "list[0].x", 'tags["a.b"]']),
        content=n,
        conf={"size": n, "colour": "red"},
        list=[{"x": n, "y": 1}],
        tags={"a.b": n, "c": "d"},
    )
    Box("some", Opts(ignore_changes=["conf.size"]), conf={"size": n, "colour": n})
    Box("deep", Opts(replace_on_changes=["conf"]), conf={"size": n})
    Box("timed", Opts(custom_timeouts=CustomTimeouts(create="1h30m", update="90s", delete="2m")), content=n)
    Box("kept", Opts(retain_on_delete=True), shape=str(n))


SCENARIOS["options"] = [up(lambda: options()), up(lambda: options(True)), destroy()]


def tied(shape: str = "1", keep: bool = True) -> None:
    host = Box("host", shape=shape)
    if keep:
        Box("guest", Opts(deleted_with=host), content=1)


SCENARIOS["deleted_with_a_replaced_host"] = [up(lambda: tied()), up(lambda: tied("2")), destroy()]
SCENARIOS["deleted_with_removed_alone"] = [up(lambda: tied()), up(lambda: tied(keep=False))]


SCENARIOS["aliases"] = [
    up(lambda: (Box("old", content=1), Box("typed", kind="Other", content=1))),
    up(
        lambda: (
            Box("new", Opts(aliases=[Alias(name="old")]), content=1),
            Box("typed", Opts(aliases=[Alias(type_="lab:index:Other")]), content=2),
        )
    ),
    up(lambda: Crate("crate", ["a"], content=1)),
]
SCENARIOS["component_renamed"] = [
    up(lambda: Crate("crate", ["a", "b"], inner=["c"], content=1)),
    up(lambda: Crate("chest", ["a", "b"], Opts(aliases=[Alias(name="crate")]), inner=["c"], content=1)),
]
SCENARIOS["moved_into_a_component"] = [
    up(lambda: Box("crate-a", content=1)),
    up(lambda: _moved()),
]


def _moved() -> None:
    crate = pulumi.ComponentResource("lab:index:Crate", "crate", {})
    Box("crate-a", Opts(parent=crate, aliases=[Alias(parent=pulumi.ROOT_STACK_RESOURCE)]), content=1)


SCENARIOS["components"] = [
    up(lambda: Crate("crate", ["a", "b"], inner=["c"], content=1)),
    up(lambda: Crate("crate", ["a"], content=2)),
    destroy(),
]


def provided(account: str = "1", region: str = "x", explicit: bool = True) -> None:
    lab = Lab("lab", account=account, region=region)
    first = Box("first", Opts(provider=lab if explicit else None), content=1)
    Box("second", content=first.serial)


SCENARIOS["provider_updated_and_replaced"] = [
    up(lambda: provided()),
    up(lambda: provided(region="y")),
    preview(lambda: provided("2", "y")),
    up(lambda: provided("2", "y")),
    destroy(),
]
SCENARIOS["default_provider_made_explicit"] = [
    up(lambda: provided(explicit=False)),
    up(lambda: provided()),
    up(lambda: provided(explicit=False)),
]
SCENARIOS["provider_refuses_its_config"] = [up(lambda: provided("forbidden"), fails=True)]
SCENARIOS["provider_renamed"] = [
    up(lambda: Box("a", Opts(provider=Lab("one", account="1")), content=1)),
    up(lambda: Box("a", Opts(provider=Lab("two", Opts(aliases=[Alias(name="one")]), account="1")), content=1)),
]
SCENARIOS["provider_config_unknown_in_preview"] = [
    preview(lambda: Box("inside", Opts(provider=Lab("late", account=Box("early", content=1).serial)), content=1)),
    up(lambda: Box("inside", Opts(provider=Lab("late", account=Box("early", content=1).serial)), content=1)),
]


def faulty(*faults: str, content: Any = 1) -> None:
    first = Box("first", content=content)
    second = Box("second", content=first.serial, extra=content, faults=list(faults))
    Box("third", content=second.serial)
    Box("aside", content=content)


SCENARIOS["create_fails"] = [up(lambda: faulty("create"), fails=True), up(lambda: faulty())]
SCENARIOS["create_fails_and_others_go_on"] = [
    up(lambda: faulty("create"), "--continue-on-error", fails=True),
    up(lambda: faulty()),
]
SCENARIOS["update_fails_and_others_go_on"] = [
    up(lambda: faulty()),
    up(lambda: faulty("update", content=2), "--continue-on-error", fails=True),
    up(lambda: faulty(content=2)),
]
SCENARIOS["check_fails"] = [up(lambda: faulty("check"), "--continue-on-error", fails=True)]
SCENARIOS["partial_create"] = [
    up(lambda: Box("a", content=1, faults=["create-partial"]), fails=True),
    up(lambda: Box("a", content=1, faults=["create-partial"])),
    destroy(),
]
SCENARIOS["partial_create_then_refresh"] = [
    up(lambda: Box("a", content=1, faults=["create-partial"]), fails=True),
    refresh(),
    up(lambda: Box("a", content=1, faults=["create-partial"])),
]
SCENARIOS["partial_update"] = [
    up(lambda: Box("a", content=1)),
    up(lambda: Box("a", content=2, faults=["update-partial"]), fails=True),
    up(lambda: Box("a", content=2)),
]
SCENARIOS["replacement_fails_and_is_reverted"] = [
    up(lambda: line()),
    up(lambda: line(1, "square", faults=["create"]), fails=True),
    up(lambda: line()),
]
SCENARIOS["delete_fails"] = [
    up(lambda: faulty("delete")),
    up(lambda: Box("aside", content=1), fails=True),
    destroy("--continue-on-error", fails=True),
    up(lambda: faulty()),
    destroy(),
]
SCENARIOS["old_one_of_a_replacement_cannot_be_deleted"] = [
    up(lambda: Box("a", shape="1", faults=["delete"])),
    up(lambda: Box("a", shape="2"), fails=True),
    up(lambda: Box("a", shape="2"), fails=True),
    up(lambda: Box("a", shape="3"), fails=True),
]


def ends_badly(error: Exception) -> None:
    Box("made", content=1)
    raise error


SCENARIOS["program_fails"] = [
    up(lambda: (Box("made", content=1), Box("stays", content=1))),
    up(lambda: ends_badly(pulumi.RunError("the user is told why")), fails=True),
    up(lambda: ends_badly(ValueError("a bug")), fails=True),
]


def asking(word: str = "so") -> None:
    answer = pulumi.runtime.invoke("lab:index:ask", {"word": word})
    Box("a", content=answer.value["answer"])


SCENARIOS["invoke"] = [preview(lambda: asking()), up(lambda: asking())]
SCENARIOS["invoke_fails"] = [up(lambda: asking("bad"), fails=True)]
SCENARIOS["get"] = [
    up(lambda: Box("user", content=Box("theirs", Opts(id="id-900")).serial), found={"content": 5}),
    up(lambda: None),
    up(lambda: Box("theirs", Opts(id="id-901")), fails=True),
]
SCENARIOS["get_then_own"] = [
    up(lambda: Box("a", Opts(id="id-900")), found={"content": 5}),
    up(lambda: Box("a", content=5)),
    destroy(),
]
SCENARIOS["import_as_it_is"] = [
    up(lambda: Box("a", Opts(import_="id-900"), content=5), found={"content": 5}),
    up(lambda: Box("a", Opts(import_="id-900"), content=5)),
    up(lambda: Box("a", content=6)),
    destroy(),
]
SCENARIOS["import_and_change"] = [up(lambda: Box("a", Opts(import_="id-900"), content=6), found={"content": 5})]
SCENARIOS["import_over_another"] = [
    up(lambda: Box("a", content=1)),
    up(lambda: Box("a", Opts(import_="id-900"), content=5), found={"content": 5}),
]
SCENARIOS["import_of_nothing"] = [up(lambda: Box("a", Opts(import_="id-900"), content=6), fails=True)]
SCENARIOS["refresh"] = [
    up(lambda: line()),
    refresh(shelf={"first": {"content": "drifted"}, "third": None}),
    up(lambda: line()),
    refresh(shelf={"second": None}),
    up(lambda: line()),
]


def exporting(n: int) -> None:
    a = Box("a", Opts(additional_secret_outputs=["key"]), content=Output.secret("hush"))
    pulumi.export("n", n)
    pulumi.export("serial", a.serial)
    pulumi.export("key", a.key)
    pulumi.export("nested", {"deep": [a.content, 1.5, None, True]})
    if n == 1:
        pulumi.export("gone", "soon")


SCENARIOS["outputs_and_secrets"] = [
    preview(lambda: exporting(1)),
    up(lambda: exporting(1)),
    up(lambda: exporting(2)),
    destroy(),
]


def remembering(n: int) -> None:
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    past = pulumi.StackReference(name)
    Box("a", content=past.get_output("n").apply(lambda before: f"before {before}"))
    pulumi.export("n", n)
    pulumi.export("before", past.get_output("n"))


SCENARIOS["own_past"] = [
    preview(lambda: remembering(1)),
    up(lambda: remembering(1)),
    up(lambda: remembering(2)),
    preview(lambda: remembering(3)),
    destroy(),
]
SCENARIOS["defaults_of_the_provider"] = [
    up(lambda: Box("a", kind="Sized", content=1)),
    up(lambda: Box("a", kind="Sized", content=2)),
    up(lambda: Box("a", kind="Sized", content=2, size="big")),
]
SCENARIOS["digest_in_the_logical_name"] = [
    up(lambda: Box("user", content=Box("g1", slot="1").serial)),
    up(lambda: Box("user", content=Box("g2", slot="1", faults=["create"]).serial), fails=True),
    up(lambda: Box("user", content=Box("g2", slot="1").serial)),
    up(lambda: Box("user", content=Box("g1", slot="1").serial)),
]


def generation(digest: str) -> None:
    base = Box("base", kind="Named", called="base")
    serving = Box(f"g-{digest}", kind="Named", called=f"g{digest}", slot="1", content=base.serial)
    Box("user", kind="Named", called="user", content=serving.serial)


SCENARIOS["generations"] = [up(lambda: generation("1")), up(lambda: generation("2")), destroy()]
