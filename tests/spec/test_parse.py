"""Reading a configuration: types as Pulumi gives them, all problems together, and nothing but SpecError raised."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.spec import Problem, SpecError, apply_fix, parse, to_values
from infra.spec.model import Spec
from infra.spec.rules import RULES
from infra.spec.structure import keys
from tests.spec.valid import ALL, DIGITS, GKE, LOCAL, changed


@pytest.mark.parametrize("name", ALL)
def test_sound_configurations_parse(name: str) -> None:
    spec = parse(ALL[name])
    assert spec.cloud == ALL[name]["cloud"]


@pytest.mark.parametrize("name", ALL)
def test_values_of_a_spec_parse_to_it(name: str) -> None:
    """A recorded plan carries its specification, through JSON."""
    spec = parse(ALL[name])
    assert parse(json.loads(json.dumps(to_values(spec)))) == spec


def test_flat_keys_are_text() -> None:
    """`pulumi config set` stores text; structured values may be JSON text."""
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in LOCAL.items()}
    assert parse({**text, "port": "8080", "protect": "true", "local_vcpus": "4"}) == parse(
        {**LOCAL, "port": 8080, "protect": True, "local_vcpus": 4}
    )


def test_local_defaults() -> None:
    spec = parse(LOCAL)
    assert (spec.shape, spec.region, spec.port, spec.local_vcpus) == ("vm", "local", 18000, 2)


@pytest.mark.parametrize(
    ("text", "name", "count", "topology"),
    [
        ("l4", "l4", None, None),
        ("l4x2", "l4", 2, None),
        ("a100-40x4", "a100-40", 4, None),
        ("v6e-4", "v6e", 4, "2x2"),
        ("v6e", "v6e", None, "1x1"),
        ("v5p", "v5p", None, "2x2x1"),
        ("v5p-4", "v5p", 4, "2x2x1"),
    ],
)
def test_accelerators(text: str, name: str, count: int | None, topology: str | None) -> None:
    base = ALL["tpu"] if name in ("v5p", "v6e") else GKE
    profile = {name: {"base_ms": 1, "per_item_ms": 1}}
    a = parse(changed(changed(base, "accelerator", text), "models.0.profile", profile)).accelerator
    assert (a.name, a.count, a.topology, str(a)) == (name, count, topology, text)


def test_all_problems_come_together() -> None:
    with pytest.raises(SpecError) as error:
        parse({"clod": "gcp", "models": [{**DIGITS, "nme": 1}], "scaling": "vertcal", "load": {"mean_rps": "-1"}})
    paths = [p.path for p in error.value.problems]
    assert {"clod", "scaling", "models[0].nme", "load.mean_rps", "load.peak_rps", "slo"} <= set(paths)
    assert (
        "scaling: 'vertcal' is not one of its values; allowed: horizontal, vertical. Did you mean 'vertical'?"
        in str(error.value)
    )


def problems(values: Mapping[str, object]) -> tuple[Problem, ...]:
    try:
        parse(values)
    except SpecError as error:
        return error.problems
    return ()


def check_fixes(values: dict[str, Any]) -> None:
    """Each problem's fix, applied, removes that problem."""
    for p in problems(values):
        assert p.fix is not None, p
        after = problems(apply_fix(copy.deepcopy(values), p.fix))
        assert (p.path, p.reason) not in [(q.path, q.reason) for q in after], (p, p.fix)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["gcp", "aws", "local", "l4", "v6e-4", "{", "[]", '{"a": 1}', "1e999", "vertical", "tf-serving", "-0"]
    ),
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
NAMES = [k.name for k in keys(Spec)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), ANY, max_size=8))
def test_any_mapping_parses_or_yields_problems(values: dict[str, Any]) -> None:
    """Never anything else raised, and each problem's fix removes that problem."""
    check_fixes(values)


def paths(node: object, here: str = "") -> list[str]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = [here] if here else []
    for key, value in items:
        found += paths(value, f"{here}.{key}" if here else str(key))
    return found


WORDS = {
    "cloud": ["gcp", "aws", "local", "on-prem"],
    "shape": ["kubernetes", "vm"],
    "scaling": ["horizontal", "vertical"],
    "cost": ["economy", "balanced", "performance"],
    "accelerator": ["none", "t4", "l4x2", "v5e-1", "v6e-4", "auto"],
    "server": ["triton", "tf-serving"],
    "image": ["a/b:1", "a/b:latest", "a/b"],
    "feature_store": ["none", "memorystore", "dynamodb", "redis"],
    "features": [{}, {"keys": 5}],
    "exposure": ["public", "private"],
    "allowed_cidrs": [["0.0.0.0/0"], ["10.0.0.1/8"]],
    "admin_cidrs": [["0.0.0.0/0"], []],
    "tls": [{"certificate": "cert"}],
    "gpu_sharing": [{"strategy": "mps"}, {"clients": 4}, {"strategy": "time-slicing", "clients": 4}],
    "model_access": ["direct", "sync", "mount"],
    "workload_identity": ["irsa", "pod-identity"],
    "pins": [{"a/b:1": "sha256:" + 64 * "0", "/a/b": "ami-01234567"}, {"/a/b": "sha256:" + 64 * "0"}, {"a/b:1": "1"}],
    "backup_uri": ["gs://bucket", "s3://bucket/x"],
    "batch": [{"input_uri": "gs://in", "output_uri": "s3://out", "model": "x"}],
    "kubernetes_version": ["1.30", "1.35"],
    "zones": [["us-central1-a", "us-central1-a"], ["eu-west-1a"]],
    "models.0.format": ["onnx", "savedmodel", "tensorrt", "openvino"],
    "models.0.storage_uri": ["gs://models/a", "s3://models/a", "here/model"],
    "models.0.share": [0.4, 1.0],
    "models.0.labels": [{"canary": 9}],
    "models.1": [{**DIGITS, "version": 2}, DIGITS, {**DIGITS, "name": "digits_by_id", "share": 0.7}],
    "load.peak_rps": [1],
    "slo.p99_ms": [100000],
    "project": ["my-project"],
    "machine_type": ["n2-standard-4"],
}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_sound_configurations_with_changes(data: st.DataObject) -> None:
    """From a sound configuration, up to five changes of sort that a person makes: the rules see these."""
    values = copy.deepcopy(data.draw(st.sampled_from(list(ALL.values()))))
    for path in data.draw(st.lists(st.sampled_from(list(WORDS)), max_size=5, unique=True)):
        values = changed(values, path, data.draw(st.sampled_from(WORDS[path])))
    if data.draw(st.booleans()):
        values = changed(values, data.draw(st.sampled_from(paths(values))), data.draw(ANY))
    check_fixes(values)


def test_every_rule_has_reason_and_source() -> None:
    assert len({r.name for r in RULES}) == len(RULES)
    assert all(r.reason.endswith((".", ")")) and r.source for r in RULES)
