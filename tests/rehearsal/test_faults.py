"""Fault rules of a rehearsal: which run of the engine was the killed one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.rehearsal.faults import Rule, killed, parse


def counted(rule: Rule, seen: int) -> Rule:
    return replace(rule, fault=replace(rule.fault, seen=seen))


@pytest.mark.parametrize(
    ("text", "before", "after", "expected"),
    [
        ("killed@2", 0, 1, False),  # not there yet
        ("killed@2", 0, 2, True),
        ("killed@2", 0, 5, True),  # three more ran beside the second
        ("killed@2", 2, 9, False),  # the run after it
        ("killed@2,times=2", 2, 3, True),
        ("killed@2,times=2", 3, 8, False),
        ("killed@2,times=0", 5, 6, True),  # always
        ("killed@2,times=0", 6, 6, False),
        ("fail@2", 0, 2, False),  # kills nobody
    ],
)
def test_a_run_is_killed_where_its_rule_struck(text: str, before: int, after: int, expected: bool) -> None:
    (rule,) = parse([text], ["up"])
    assert killed([counted(rule, before)], [counted(rule, after)]) is expected
