"""Physical names: within every type's limit and characters, never the same for two things that were cut alike."""

from __future__ import annotations

import csv
import re
import string
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.clouds.naming import label, physical, rules

TABLES = Path(__file__).resolve().parents[2] / "simulators" / "tables"
STACKS = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=100)  # what Pulumi takes
ROLES = st.from_regex(r"[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,20}){0,3}", fullmatch=True)
DIGESTS = st.one_of(st.none(), st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
KINDS = st.sampled_from([r.kind for r in rules()])


def name(kind: str, stack: str, role: str, digest: str | None) -> str:
    return physical(kind, stack, role, digest, account="123456789012")


@given(kind=KINDS, stack=STACKS, role=ROLES, digest=DIGESTS)
@settings(max_examples=200)
def test_every_name_is_one_that_the_type_takes(kind: str, stack: str, role: str, digest: str | None) -> None:
    rule = next(r for r in rules() if r.kind == kind)
    made = name(kind, stack, role, digest)
    assert len(made) <= rule.max_length
    assert rule.pattern.fullmatch(made)
    assert digest is None or digest in made


@given(kind=KINDS, one=st.tuples(STACKS, ROLES, DIGESTS), other=st.tuples(STACKS, ROLES, DIGESTS))
@settings(max_examples=200)
def test_two_things_have_two_names(
    kind: str, one: tuple[str, str, str | None], other: tuple[str, str, str | None]
) -> None:
    """Only parts that read the same when joined may share a name: `a-b` with `c`, and `a` with `b-c`."""
    if [p for p in one if p] != [p for p in other if p] and "-".join(filter(None, one)) != "-".join(
        filter(None, other)
    ):
        assert name(kind, *one) != name(kind, *other)


@given(kind=KINDS, stack=STACKS, role=ROLES, digest=DIGESTS, tail=st.text(string.ascii_lowercase, min_size=1))
def test_a_difference_beyond_the_cut_still_tells_two_stacks_apart(
    kind: str, stack: str, role: str, digest: str | None, tail: str
) -> None:
    long = stack + "x" * 90
    assert name(kind, long, role, digest) != name(kind, long + tail, role, digest)
    assert name(kind, stack, role + "y" * 90, digest) != name(kind, stack, role + "y" * 90 + tail, digest)


def test_a_short_name_reads_as_its_parts() -> None:
    assert physical("gcp:container/nodePool:NodePool", "gke-gpu", "base", "0a1b2c3d") == "gke-gpu-base-0a1b2c3d"


def test_the_role_survives_the_cut() -> None:
    made = physical("gcp:serviceaccount/account:Account", "a-very-long-name-of-a-stack", "nodes")
    assert re.fullmatch(r"a-very-long-nam-nodes-[0-9a-f]{8}", made)


def test_a_stack_that_differs_by_a_dot_only() -> None:
    names = {physical("gcp:compute/network:Network", stack, "network") for stack in ("a.b", "a-b", "A-b", "a_b")}
    assert len(names) == 4


def test_names_of_all_the_world_need_the_account() -> None:
    with pytest.raises(ValueError, match="state the account"):
        physical("gcp:storage/bucket:Bucket", "gke-cpu", "models")
    mine, yours = (physical("gcp:storage/bucket:Bucket", "gke-cpu", "models", account=a) for a in ("mine", "yours"))
    assert mine != yours


def test_a_reserved_word_in_the_stack() -> None:
    made = physical("gcp:storage/bucket:Bucket", "google-demo", "models", account="p")
    assert "google" not in made


def test_a_type_without_a_row() -> None:
    with pytest.raises(KeyError, match=r"names\.csv"):
        physical("azure:compute/disk:Disk", "a", "b")


def _has_row(kind: str) -> bool:
    return any(fnmatchcase(kind, r.kind) for r in rules())


def _measured() -> list[tuple[str, str, str]]:
    """What the real providers answered about names, as the simulators' tables keep it."""
    found = []
    for table, kinds in (("rules_gcp", "types_gcp"), ("rules_aws", "types_aws"), ("rules_k8s", "types_k8s")):
        with (TABLES / f"{kinds}.csv").open() as file:
            fields = {r["type"]: r["name"] for r in csv.DictReader(file) if _has_row(r["type"])}
        with (TABLES / f"{table}.csv").open() as file:
            for row in csv.DictReader(file):
                if row["path"] and fields.get(row["type"]) == row["path"] and row["rule"] in ("regex", "length"):
                    found.append((row["type"], row["rule"], row["argument"]))
    return found


MEASURED = _measured()
assert len(MEASURED) > 20


@pytest.mark.parametrize(("kind", "rule", "argument"), MEASURED)
@given(stack=STACKS, role=ROLES, digest=DIGESTS)
@settings(max_examples=10)
def test_the_real_providers_take_the_names(
    kind: str, rule: str, argument: str, stack: str, role: str, digest: str | None
) -> None:
    made = name(kind, stack, role, digest)
    if rule == "regex":
        assert re.search(argument, made)
    else:
        low, _, high = argument.partition("..")
        assert int(low or 0) <= len(made) <= int(high or 9999)


@given(one=STACKS, other=STACKS)
def test_label_values_are_taken_by_both_clouds(one: str, other: str) -> None:
    """Google takes small letters only, Kubernetes wants a letter or digit at both ends."""
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", label(one))
    assert (label(one) == label(other)) == (one == other)
    assert label(label(one)) == label(one)
