"""Boot images of machines: public parameters as rows, and the image that a stack once found behind one, and keeps."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.here import Here
from infra.plan import Pool


@dataclass(frozen=True, kw_only=True)
class Image:
    name: str  # within the stack
    accelerated: bool
    arch: str
    parameter: str  # of AWS, whose value is the newest image's id
    device: str  # of the root volume


@cache
def _rows() -> tuple[Image, ...]:
    with Path(__file__).with_name("images.csv").open(newline="", encoding="utf-8") as file:
        fields = ("name", "arch", "parameter", "device")
        return tuple(
            Image(accelerated=r["accelerated"] == "yes", **{f: r[f] for f in fields}) for r in csv.DictReader(file)
        )


def image(pool: Pool) -> Image:
    """The image of a pool's machines."""
    wanted = (pool.accelerator != "none", pool.arch)
    found = next((i for i in _rows() if (i.accelerated, i.arch) == wanted), None)
    if found is None:
        known = ", ".join(f"{i.name} ({i.arch})" for i in _rows())
        raise pulumi.RunError(
            f"machine_type: {pool.machine_type} needs a boot image for {pool.arch} with {pool.accelerator}, and there "
            f"is none; allowed: {known}. To fix: choose another machine_type, or the shape kubernetes"
        )
    return found


def held(here: Here, one: Image) -> pulumi.Output[str]:
    """The id that was the newest when the stack first asked. It stands in a parameter of the stack's own, and no later
    run changes it. To take a newer one that parameter is replaced (`pulumi up --replace`): machines that start from
    then on have it."""
    newest = aws.ssm.get_parameter(name=one.parameter, opts=pulumi.InvokeOptions(provider=here.provider)).value
    role = f"image-{one.name}"
    kept = aws.ssm.Parameter(
        role,
        name=here.name("ssm/parameter:Parameter", role),
        type="String",
        insecure_value=newest,  # an id is no secret
        description=f"Boot image of the stack's machines, found at {one.parameter}",
        tags=here.tags(role),
        opts=pulumi.ResourceOptions.merge(
            here.on(ignore=("insecureValue",)),
            pulumi.ResourceOptions(delete_before_replace=True),  # two of one name cannot be
        ),
    )
    return kept.insecure_value.apply(lambda value: value or "")
