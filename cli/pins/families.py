"""Boot images of Google Cloud: the image that a family means now."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cli.pins.registry import PinError

FAMILY = "https://compute.googleapis.com/compute/v1/{family}"
IMAGE = re.compile("projects/[-a-z0-9]+/global/images/[-a-z0-9]+")
SCOPE = "https://www.googleapis.com/auth/compute.readonly"
FIX = "To fix: gcloud auth application-default login"
Get = Callable[[str], tuple[int, Any]]  # address to status and the answer's JSON, or its text where it has none


def newest(family: str, get: Get) -> str:
    """The newest image of the family that is not deprecated, as Compute Engine says."""
    status, answer = get(FAMILY.format(family=family))
    if status != 200:
        raise PinError(f"{family}: answers {status}: {str(answer)[:200]}. {FIX}")
    link = str(answer.get("selfLink", "")) if isinstance(answer, dict) else ""
    image = link.partition("/compute/v1/")[2]
    if not IMAGE.fullmatch(image):
        raise PinError(f"{family}: answers {link!r}, which is no image's address")
    return image


def asking() -> Get:
    """With this machine's credentials."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from requests import RequestException

    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as e:
        raise PinError(f"no credentials of Google Cloud: {e}. {FIX}") from e
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def get(url: str) -> tuple[int, Any]:
        try:
            answer = session.get(url, timeout=30)
        except (GoogleAuthError, RequestException) as e:
            raise PinError(f"{url}: {e}. {FIX}") from e
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    return get
