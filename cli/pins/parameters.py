"""Boot images of AWS: the id that a public parameter holds now."""

from __future__ import annotations

import re

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cli.pins.registry import PinError

ID = re.compile("ami-[0-9a-f]{8,17}")
QUICK = Config(connect_timeout=10, read_timeout=20, retries={"max_attempts": 3})


def image_id(parameter: str, region: str) -> str:
    """The value of the parameter in this region, as the account's own credentials see it."""
    try:
        answer = boto3.client("ssm", region_name=region, config=QUICK).get_parameter(Name=parameter)
    except (BotoCoreError, ClientError) as e:
        raise PinError(f"{parameter}: cannot be read in {region}: {e}. To fix: check AWS credentials and region") from e
    value = answer["Parameter"]["Value"]
    if not ID.fullmatch(value):
        raise PinError(f"{parameter}: holds {value!r} in {region}, which is no image's id")
    return str(value)
