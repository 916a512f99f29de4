"""Boot images of Google Cloud: the image that a family means now."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cli.errors import CliError
from cli.google import LOGIN, session
from cli.pins.registry import PinError

FAMILY = "https://compute.googleapis.com/compute/v1/{family}"
IMAGE = re.compile("projects/[-a-z0-9]+/global/images/[-a-z0-9]+")
Get = Callable[[str], tuple[int, Any]]  # address to status and the answer's JSON, or its text where it has none


def newest(family: str, get: Get) -> str:
    """The newest image of the family that is not deprecated, as Compute Engine says."""
    status, answer = get(FAMILY.format(family=family))
    if status != 200:
        raise PinError(f"{family}: answers {status}: {str(answer)[:200]}. {LOGIN}")
    link = str(answer.get("selfLink", "")) if isinstance(answer, dict) else ""
    image = link.partition("/compute/v1/")[2]
    if not IMAGE.fullmatch(image):
        raise PinError(f"{family}: answers {link!r}, which is no image's address")
    return image


def asking() -> Get:
    """With this machine's credentials."""
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        asked = session("compute.readonly")
    except CliError as e:
        raise PinError(str(e)) from e

    def get(url: str) -> tuple[int, Any]:
        try:
            answer = asked.get(url, timeout=30)
        except (GoogleAuthError, RequestException) as e:
            raise PinError(f"{url}: {e}. {LOGIN}") from e
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    return get
