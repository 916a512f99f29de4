"""Exit codes, and the errors that a user can do something about."""

from __future__ import annotations

from collections.abc import Iterable

OK = 0
FAILED = 1
USAGE = 2
LOCKED = 3
REFUSED = 4
LEFTOVERS = 5
INTERRUPTED = 130

MEANING = {
    OK: "done",
    FAILED: "an operation, a prediction or a request failed",
    USAGE: "bad usage, bad configuration, or this machine cannot run the stack",
    LOCKED: "another run holds the stack's lock",
    REFUSED: "refused: protected resources, a stack of the other engine, a real cloud on the embedded engine",
    LEFTOVERS: "destroy left something behind, or found what no state knows",
    INTERRUPTED: "interrupted by Ctrl-C",
}


class CliError(Exception):
    """Told as plain text without a traceback; every problem, a line each."""

    def __init__(self, problems: str | Iterable[str], code: int = FAILED) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.code = code
        super().__init__("\n".join(self.problems))


class NoCredentialsError(CliError):
    """Nobody can ask the cloud."""
