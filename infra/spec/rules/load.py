"""Rules of load, SLO and time."""

from __future__ import annotations

from infra.spec.model import Spec
from infra.spec.rules.registry import SLIPWAY, Found, problem, rule, to


@rule("A load's peak is its largest value.", "definition")
def peak_above_mean(spec: Spec) -> Found:
    if spec.load.peak_rps < spec.load.mean_rps:
        yield problem(
            ("load", "peak_rps"),
            f"{spec.load.peak_rps:g} is below load.mean_rps, {spec.load.mean_rps:g}",
            fix=to("load", "peak_rps", value=spec.load.mean_rps),
        )


@rule("A request that may not last as long as the SLO allows would be cut off within it.", SLIPWAY)
def requests_outlast_the_slo(spec: Spec) -> Found:
    if spec.max_request_s * 1000 < spec.slo.p99_ms:
        yield problem(
            ("max_request_s",),
            f"{spec.max_request_s:g} s is shorter than slo.p99_ms, {spec.slo.p99_ms:g} ms",
            fix=to("max_request_s", value=min(600.0, max(0.1, spec.slo.p99_ms / 1000))),
        )
