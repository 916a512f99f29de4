"""Operations one after another in one process, as cli.stores.work does each in its own: `python -m …work_server`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from cli.errors import CliError
from cli.stores.work import run


def say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


for given in sys.stdin:
    asked = json.loads(given)
    os.environ.update(asked.pop("env"))
    try:
        say({"result": run(asked, lambda text: say({"say": text}))})
    except CliError as e:
        say({"error": list(e.problems), "code": e.code})
    except Exception:  # the test that asked is to fail with it
        say({"error": [traceback.format_exc()], "code": None})
os._exit(0)  # Google's clients keep threads
