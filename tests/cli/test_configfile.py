"""Setting a key in a stack's file changes that key and not one other line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cli.configfile import overridden, set_key, write_key
from cli.errors import USAGE, CliError

TEXT = """# A stack.
encryptionsalt: v1:abc=
config:
  # how it scales
  slipway:cloud: local   # here
  slipway:scaling: horizontal  # or vertical

  slipway:models:
    - name: digits
      size_mib: 0.2   # small
  slipway:load: {mean_rps: 200, peak_rps: 600}
  'slipway:region': "a#b"

# the end
backend: x
"""


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        (
            "slipway:scaling",
            "  slipway:scaling: horizontal  # or vertical\n",
            "  slipway:scaling: vertical  # or vertical\n",
        ),
        ("slipway:cloud", "  slipway:cloud: local   # here\n", "  slipway:cloud: vertical  # here\n"),
        ("slipway:region", "  'slipway:region': \"a#b\"\n", "  'slipway:region': vertical\n"),
        ("slipway:load", "  slipway:load: {mean_rps: 200, peak_rps: 600}\n", "  slipway:load: vertical\n"),
        (
            "slipway:models",
            "  slipway:models:\n    - name: digits\n      size_mib: 0.2   # small\n",
            "  slipway:models: vertical\n",
        ),
        ("slipway:slo", "  'slipway:region': \"a#b\"\n", "  'slipway:region': \"a#b\"\n  slipway:slo: vertical\n"),
    ],
)
def test_one_key_changes_and_the_rest_stays(key: str, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert set_key(TEXT, key, "vertical") == TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", "config:\n  k:a: v\n"),
        ("name: x", "name: x\nconfig:\n  k:a: v\n"),
        ("config:\n", "config:\n  k:a: v\n"),
        ("config: {}\n", "config:\n  k:a: v\n"),
        ("config:\n    k:b: 1", "config:\n    k:b: 1\n    k:a: v\n"),
        ("config:\r\n  k:a: old\r\nx: y\r\n", "config:\r\n  k:a: v\r\nx: y\r\n"),
        ("config:\n  k:a:\n  - 1\n  - 2\n  k:b: 3\n", "config:\n  k:a: v\n  k:b: 3\n"),
        ("config:\n  k:a: |\n    long\n\n    text\n\n  k:b: 3\n", "config:\n  k:a: v\n\n  k:b: 3\n"),
    ],
)
def test_forms_of_the_file(text: str, after: str) -> None:
    assert set_key(text, "k:a", "v") == after


@pytest.mark.parametrize("text", ["config: {k:a: 1}\n", "config: &x\n  k:b: 1\n", "- a\n"])
def test_a_form_that_cannot_be_edited_is_refused_and_nothing_is_lost(text: str) -> None:
    with pytest.raises(CliError, match="by hand") as e:
        set_key(text, "k:a", "v")
    assert e.value.code == USAGE


KEYS = st.from_regex(r"[a-z]{1,8}:[a-z_]{1,12}", fullmatch=True)
PLAIN = st.recursive(
    st.one_of(st.text(max_size=30), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    config=st.dictionaries(KEYS, PLAIN, max_size=5),
    key=KEYS,
    value=st.text(max_size=40),
    flow=st.sampled_from([False, None]),
)
def test_round_trip(config: dict[str, object], key: str, value: str, flow: bool | None) -> None:
    """For any file that YAML writes and any value: the key holds the value, every other key what it held."""
    text = yaml.safe_dump({"salt": "s", "config": config, "z": 1}, default_flow_style=flow, sort_keys=False)
    if flow is None and "config: {" in text and "config: {}" not in text:
        return  # the one form that is refused, tested above
    changed = set_key(text, key, value)
    assert yaml.safe_load(changed) == {"salt": "s", "config": {**config, key: value}, "z": 1}
    assert set_key(changed, key, value) == changed


def test_on_disk_the_mode_stays_and_no_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.x.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    write_key(path, "slipway:scaling", "vertical")
    assert path.read_text() == TEXT.replace("horizontal", "vertical")
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_several_for_one_run() -> None:
    changed = yaml.safe_load(overridden(TEXT, {"slipway:port": "19000", "slipway:cloud": "true"}))["config"]
    assert (changed["slipway:port"], changed["slipway:cloud"]) == ("19000", "true")


@pytest.mark.parametrize(
    "text", [TEXT, TEXT.replace("  slipway:load: {mean_rps: 200, peak_rps: 600}\n", "  slipway:pins:\n    a: b\n")]
)
def test_a_mapping_is_one_line_and_replaces_what_was_there(text: str) -> None:
    pins = {"registry.example:5000/a/b:1": "sha256:" + 64 * "0", "/a/b": "ami-01234567"}
    changed = set_key(text, "slipway:pins", pins)
    assert yaml.safe_load(changed)["config"]["slipway:pins"] == pins
    assert changed.count("slipway:pins") == 1
    assert [line for line in changed.splitlines() if "pins" not in line] == [
        line for line in text.splitlines() if "pins" not in line and line != "    a: b"
    ]
