"""Property values: ignored paths, patterns, secrets and unknowns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import values as v
from engine.rows import Row, dependants, layers

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**50), 2**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_the_wire_keeps_every_value(props: v.Props) -> None:
    """What goes out as a Struct comes back equal."""
    assert v.from_struct(v.to_struct(props)) == props


@pytest.mark.parametrize(
    ("path", "old", "new", "want"),
    [
        ("a", {"a": 1}, {"a": 2, "b": 3}, {"a": 1, "b": 3}),
        ("a", {}, {"a": 2}, {}),
        ("a", {"a": 1}, {}, {"a": 1}),
        ("a.b", {"a": {"b": 1, "c": 1}}, {"a": {"b": 2, "c": 2}}, {"a": {"b": 1, "c": 2}}),
        ("a.b", {}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ("a[1].b", {"a": [{}, {"b": 1}]}, {"a": [{}, {"b": 2}]}, {"a": [{}, {"b": 1}]}),
        ("a[*].b", {"a": [{"b": 1}, {"b": 1}]}, {"a": [{"b": 2}, {"b": 3}]}, {"a": [{"b": 1}, {"b": 1}]}),
        ('a["x.y"]', {"a": {"x.y": 1}}, {"a": {"x.y": 2}}, {"a": {"x.y": 1}}),
        ("*", {"a": 1, "c": 1}, {"a": 2, "b": 2}, {"a": 1, "c": 1}),
        ("a.b", {"a": v.secret({"b": 1})}, {"a": v.secret({"b": 2})}, {"a": v.secret({"b": 1})}),
    ],
)
def test_ignored_changes(path: str, old: v.Props, new: v.Props, want: v.Props) -> None:
    """At an ignored path the old value stands, or the old absence."""
    assert v.ignore_changes(new, old, [path]) == want


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("a", "a", True),
        ("a", "a.b[0]", True),
        ("a.b", "a", False),
        ("*", "x", True),
        ("a[*].c", "a[3].c", True),
        ("a", "ab", False),
    ],
)
def test_patterns(pattern: str, path: str, covered: bool) -> None:
    """A pattern covers what lies below it."""
    assert v.covers(pattern, path) is covered


def test_output_values_become_what_they_hold() -> None:
    """A known one its value, a secret one a secret, one without a value an unknown."""
    held = {
        "known": {v.SIG: v.OUTPUT, "value": 1},
        "secret": {v.SIG: v.OUTPUT, "value": "x", "secret": True},
        "unknown": {v.SIG: v.OUTPUT},
    }
    assert v.from_struct(v.to_struct(held)) == {"known": 1, "secret": v.secret("x"), "unknown": v.UNKNOWN}


def test_a_provider_without_secrets_gets_them_marked_again() -> None:
    """By the name of the input, and by what the program names."""
    marked = v.mark_secrets({"a": 1, "b": 2, "c": 3}, {"a": v.secret(1), "b": 2}, ["c"])
    assert marked == {"a": v.secret(1), "b": 2, "c": v.secret(3)}


def chain(*names: str) -> list[Row]:
    return [{"urn": n, "custom": True, "type": "t:i:T", "dependencies": [n[:-1]] if n[:-1] else []} for n in names]


def test_layers_delete_dependants_first() -> None:
    """Each layer only after those that need it."""
    assert layers(chain("a", "ab", "abc", "d"), {0, 1, 2, 3}) == [[2], [1], [0, 3]]


def test_of_two_rows_with_one_name_the_nearest_before_is_meant() -> None:
    """While a replacement is pending, old and new stand side by side."""
    rows = [*chain("a", "ab"), *chain("a", "ab")]
    assert dependants(rows, 0) == [1]
    assert dependants(rows, 2) == [3]
