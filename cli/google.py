"""Google's interfaces over REST, with this machine's credentials: the gRPC libraries of Google and of Pulumi do not fit
into one process (both bring google.rpc)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cli.errors import USAGE, CliError, NoCredentialsError

LOGIN = "To fix: gcloud auth application-default login"
SCOPE = "https://www.googleapis.com/auth/{}"


def session(scope: str) -> Any:
    """As `requests.Session`, with a token in every request."""
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession
    except ModuleNotFoundError as e:
        raise CliError(f"Google Cloud needs {e.name}. To fix: pip install 'slipway[gcp]'", USAGE) from None
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE.format(scope)])
    except DefaultCredentialsError as e:
        raise NoCredentialsError(f"no credentials of Google Cloud: {e}. {LOGIN}", USAGE) from None
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]


def answered(ask: Callable[..., Any], url: str, fix: str, **how: Any) -> Mapping[str, Any]:
    """The answer's JSON; `ask` is a method of a session, `fix` what helps where Google refuses."""
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        answer = ask(url, timeout=60, **how)
    except (GoogleAuthError, RequestException) as e:
        raise CliError(f"{url}: {e}. {LOGIN}", USAGE) from None
    if answer.status_code != 200:
        raise CliError(f"{url}: {answer.status_code} {answer.text[:300]}. {fix}")
    found: Mapping[str, Any] = answer.json()
    return found
