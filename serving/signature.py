"""What a network takes and gives, however that was learnt: names, types and shapes in the V2 protocol's terms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.container import Tensor

# V2 datatype -> bytes of one value; BYTES has no fixed size
SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}


class NotServable(Exception):  # noqa: N818  -- a finding about the model, told to the user as it stands
    """The model cannot be served as it stands, and why."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """One input or output; `dims` without the batch dimension, -1 where the size is free."""

    name: str
    datatype: str
    dims: tuple[int, ...]

    @property
    def no_dims(self) -> tuple[int, ...]:
        """Triton has no items without dimensions: one is served as of size 1 and reshaped before the network."""
        return () if self.dims else (1,)

    @property
    def item_bytes(self) -> int | None:
        """Bytes of one item, where that is fixed."""
        if -1 in self.dims or self.datatype not in SIZES:
            return None
        return SIZES[self.datatype] * math.prod(self.dims)


@dataclass(frozen=True, kw_only=True)
class Signature:
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool  # the first dimension of every input and output is free
    probe_inputs: tuple[Tensor, ...]
    probe_outputs: tuple[Tensor, ...]
