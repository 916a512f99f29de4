"""Accelerators as the user writes them: l4, l4x2, v6e-4; parsed once into name, count and topology."""

from __future__ import annotations

import re
from dataclasses import dataclass

GPUS = ("t4", "l4", "a10g", "l40s", "a100-40", "a100-80", "h100")
# Single-host slices, chips -> topology: one machine, no placement policy. Larger ones span machines and cannot be
# scaled one by one. The number counts chips; in Google's own v5p-8 it counts cores.
# Source: docs.cloud.google.com/tpu/docs/v6e, v5p and v5e tables, as of 2026-08-20.
SLICES = {
    "v5e": {1: "1x1", 4: "2x2", 8: "2x4"},
    "v5p": {4: "2x2x1"},
    "v6e": {1: "1x1", 4: "2x2", 8: "2x4"},
}
TPUS = tuple(SLICES)
NAMES = ("none", *GPUS, *TPUS, "auto")
WORDS = (*NAMES, *(f"{g}x{n}" for g in GPUS for n in (2, 4, 8)), *(f"{t}-{n}" for t in TPUS for n in SLICES[t]))
LISTED = (*NAMES, "l4x2 for two a machine", "v6e-4 for a slice of four chips")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What the user asked to compute on; `count` None leaves the number a machine to the plan."""

    name: str
    count: int | None = None

    @property
    def is_gpu(self) -> bool:
        return self.name in GPUS

    @property
    def is_tpu(self) -> bool:
        return self.name in TPUS

    @property
    def topology(self) -> str | None:
        slices = SLICES.get(self.name)
        return slices[self.count or min(slices)] if slices else None

    def __str__(self) -> str:
        if self.count is None:
            return self.name
        return f"{self.name}-{self.count}" if self.is_tpu else f"{self.name}x{self.count}"


def parse_accelerator(text: str) -> Accelerator:
    """Reads l4, l4x2, v6e-4; raises ValueError with the reason."""
    if text in NAMES:
        return Accelerator(name=text)
    gpu = re.fullmatch(r"([a-z0-9-]+?)x([0-9]{1,3})", text)
    if gpu and gpu[1] in GPUS:
        if int(gpu[2]) not in (1, 2, 4, 8):
            raise ValueError(f"no machine carries {int(gpu[2])} of {gpu[1]}")
        return Accelerator(name=gpu[1], count=int(gpu[2]))
    tpu = re.fullmatch(r"([a-z0-9]+)-([0-9]{1,4})", text)
    if tpu and tpu[1] in TPUS:
        if int(tpu[2]) not in SLICES[tpu[1]]:
            raise ValueError(
                f"{int(tpu[2])} chips of {tpu[1]} are no single-host slice, and only those scale one by one"
            )
        return Accelerator(name=tpu[1], count=int(tpu[2]))
    raise ValueError(f"{text[:40]!r} is not an accelerator that Slipway knows")
