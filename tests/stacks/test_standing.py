"""Generations of machines that stand beside the wanted one: what an update declares, whatever those before it did."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace

import pytest

from infra.plan import Plan, transition
from stacks import standing
from stacks.standing import Generation, Told
from tests.plan.stacks import planned, worked

TOLD = Told(
    user_data="#cloud-config\n",
    ports={"http": 8000, "grpc": 8001},
    ready_path="/v2/models/m/ready",
    startup_s=600,
    drain_s=40,
    spot_notice_s=30,
)


def plan(stack: str = "gce-gpu", **changes: object) -> Plan:
    return planned(worked(stack, **changes))


def generation(digest: str, of: Plan) -> Generation:
    return Generation(digest=digest, plan=of, told={"base": TOLD}, uploaded=True)


GCE = plan()
A, B, C = (generation(d, GCE) for d in ("aaaaaaaa", "bbbbbbbb", "cccccccc"))


def digests(found: list[Generation]) -> list[str]:
    return [g.digest[0] for g in found]


def test_a_record_comes_back_as_it_was() -> None:
    """Whole numbers stay whole and what is absent stays so: the same resources come out of it."""
    made = generation("0123abcd", plan("gce-cpu"))
    again = standing.unpack(standing.pack(made))
    assert again == made
    assert json.dumps(again.plan.to_json(), sort_keys=True) == json.dumps(made.plan.to_json(), sort_keys=True)
    assert standing.pack(again) == standing.pack(made)


@pytest.mark.parametrize("record", ["", "no base64!", "e30=", standing.pack(A)[:-9]])
def test_a_record_that_cannot_be_read_is_said(record: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        standing.unpack(record)


CASES = {  # recorded, its own first; wanted; what is declared beside it
    "first up": ([], "a", ""),
    "nothing to do": ([A], "a", ""),
    "switch": ([A], "b", "a"),
    "second update": ([B, A], "b", ""),
    "failed first update, again": ([A], "b", "a"),
    "failed first update, taken back": ([A], "a", ""),
    "taken back between the two": ([B, A], "a", "b"),
    "failed second update, again": ([B], "b", ""),
    "failed second update, taken back": ([B], "a", "b"),
    "another while one is half done": ([B, A], "c", "ba"),
    "and its end": ([C, B, A], "c", ""),
    "and taken back half way": ([C, B, A], "b", "ca"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_what_an_update_declares(case: str) -> None:
    recorded, wanted, beside = CASES[case]
    assert "".join(digests(standing.beside(GCE, wanted * 8, recorded))) == beside


def test_one_update_is_enough_where_groups_join_by_themselves() -> None:
    assert standing.beside(plan("ec2-gpu"), "b" * 8, [A]) == []


@dataclass
class Stack:
    """Updates as Pulumi runs them: deletes come last, and outputs are recorded by one that ended well."""

    recorded: list[Generation]
    there: set[str]
    serve: set[str]  # in the balancer's list

    def update(self, wanted: Generation, ends: str) -> None:
        others = standing.beside(GCE, wanted.digest, self.recorded)
        declared = {g.digest for g in (wanted, *others)}
        self.there = self.there | declared
        if ends == "before the balancer":
            return
        self.serve = set(declared)
        if ends == "before the deletes":
            return
        self.recorded = [wanted, *others]
        if ends == "well":
            self.there = set(declared)


ENDS = ("before the balancer", "before the deletes", "in the deletes", "well")


def test_what_serves_never_goes_in_the_update_that_makes_another() -> None:
    """Every walk of three updates over three generations, whatever becomes of each; two more leave the last one."""
    for walk in itertools.product(itertools.product((A, B, C), ENDS), repeat=3):
        stack = Stack(recorded=[], there=set(), serve=set())
        stack.update(A, "well")
        for wanted, ends in walk:
            proven = stack.recorded[0].digest  # it was whole, and in the balancer, when an update ended well
            stack.update(wanted, ends)
            assert proven in stack.serve
            assert stack.serve <= stack.there
        stack.update(walk[-1][0], "well")
        stack.update(walk[-1][0], "well")
        assert stack.there == stack.serve == {walk[-1][0].digest}


def test_the_entry_asks_for_what_all_that_stand_answer() -> None:
    assert standing.shared_path(["/a", "/b"], []) == "/b"
    assert standing.shared_path(["/a", "/b"], [["/a"]]) == "/a"
    assert standing.shared_path(["/a", "/b"], [["/b", "/a"], ["/a", "/b", "/c"]]) == "/b"
    assert standing.shared_path(["/c"], [["/a"]]) == "/c", "nothing in common: clients ask for other names as well"


def test_whatever_makes_another_machine_is_another_generation() -> None:
    pools = tuple(replace(p, zones=("us-central1-a",)) for p in GCE.pools)
    digest = standing.digest(GCE, ["text"], ["image"], "files")
    others = {
        standing.digest(GCE, ["other"], ["image"], "files"),
        standing.digest(GCE, ["text"], ["other"], "files"),
        standing.digest(GCE, ["text"], ["image"], "other"),
        standing.digest(GCE, ["text"], ["image"]),
        standing.digest(replace(GCE, generation="x"), ["text"], ["image"], "files"),
        standing.digest(replace(GCE, pools=pools), ["text"], ["image"], "files"),
    }
    assert len(others | {digest}) == 7
    assert digest == standing.digest(GCE, ["text"], ["image"], "files")


def test_what_an_old_group_costs_is_said_with_the_way_out() -> None:
    least, most = standing.still_costs([A])
    assert most == pytest.approx(sum(p.max_nodes * p.usd_per_hour for p in GCE.pools))
    assert 0 < least <= most
    said = standing.in_words([A], "gce-gpu")
    assert "aaaaaaaa" in said
    assert f"${most:,.2f}" in said
    assert "slipway up gce-gpu" in said


def test_a_transition_counts_what_still_stands() -> None:
    """Half way the old machines count against quota and cost until the second update; a third stands beside both."""
    wide, tall = plan(scaling="horizontal"), plan(scaling="vertical")
    first = transition(wide, tall)
    assert first.updates == 2
    second = transition(tall, tall, [wide])
    assert (second.kind, second.added, second.updates) == ("retire", (), 1)
    assert f"serving {wide.generation}" in second.removed
    back = transition(tall, wide, [wide])
    assert (back.kind, back.added) == ("generation", ())
    assert back.removed[0] == f"serving {tall.generation}"
    third = transition(tall, plan(scaling="horizontal", cost="performance", accelerator="l4"), [wide])
    assert {f"serving {p.generation}" for p in (wide, tall)} <= set(third.removed)
    assert sum(n for _, n in third.quota) > sum(n for _, n in first.quota)
