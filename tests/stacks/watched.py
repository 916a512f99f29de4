"""A life whose updates are judged as a rehearsal judges them: what serves at each moment against the planned peak."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cli import plans
from cli.rehearsal import judges, measure
from cli.rehearsal.report import Phase
from infra.plan import Plan
from serving.kubernetes import parts
from simulators.core.faults import Fault
from tests.plan.stacks import plan
from tests.stacks.life import Life, done


class Watched:
    """Requests are asked for from the first update that ended well on."""

    def __init__(self, life: Life) -> None:
        self.life, self.serves = life, False
        self._traffic = judges.Traffic(planned=self._planned, read=plans.recorded, parts=parts)

    def go(self, change: Mapping[str, object], *faults: Fault, ends_well: bool = True) -> Phase:
        """One update, and what became of the requests meanwhile."""
        before, known = self._state(), len(self.life.world.operations)
        self._change = change
        result = self.life.go("up", change, faults=faults)
        assert not ends_well or done(result)
        operations = self.life.world.operations[known:]
        phase, timeline = measure.phase("", operations, before, self._state(), ok=result.ok, destroys=False)
        case = judges.Case(
            world=self.life.world, timeline=timeline, phase=phase, outputs=result.outputs if result.ok else {},
            config={}, served=self.serves, destroys=False,
        )  # fmt: skip
        judged, problems = self._traffic(case)
        self.serves = self.serves or result.ok
        assert not problems, problems
        return judged

    def _planned(self, _: Mapping[str, str]) -> Plan:
        return plan(self.life.stack, **{**self.life.always, **self._change})

    def _state(self) -> dict[str, Any] | None:
        file = self.life.folder / f"{self.life.stack}.json"
        if not file.exists():
            return None
        state = json.loads(file.read_text())
        return {"deployment": state.get("deployment", state)}
