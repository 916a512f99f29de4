"""What the stores of AWS share: one call, with the SDK's fault as the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cli.errors import CliError


def asked(operation: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return operation(**arguments)
    except (BotoCoreError, ClientError) as e:
        raise CliError(f"{getattr(operation, '__name__', 'AWS')}: {e}") from e
