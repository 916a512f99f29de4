"""Runs a Pulumi program in the project's own Python; stands alone, as that one may not have this package."""

import sys

sys.path.pop(0)  # this folder, whose modules are none of the program's business

import argparse
import asyncio
import ctypes
import logging
import os
import runpy
import signal
import traceback
from concurrent.futures import ThreadPoolExecutor


def die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit(1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in (
        "parent",
        "monitor",
        "engine",
        "project",
        "stack",
        "organization",
        "root",
        "parallel",
        "dry-run",
        "program",
    ):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    die_with(int(args.parent))
    import pulumi
    import pulumi.runtime

    pulumi.runtime.set_all_config(pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env())
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            monitor=args.monitor,
            engine=args.engine,
            project=args.project,
            stack=args.stack,
            parallel=int(args.parallel),
            dry_run=args.dry_run == "true",
            organization=args.organization,
            root_directory=args.root,
        )
    )
    sys.argv = [args.program]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(max_workers=max(int(args.parallel), 1) * 4))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # futures that nobody waits for after a failure are no news
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _program(args.program)))
    except pulumi.RunError as e:
        pulumi.log.error(str(e))
        return 32
    except Exception:
        pulumi.log.error("Program failed with an unhandled exception:\n" + _trace(args.program))
        return 32
    return 0


def _program(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


def _trace(program: str) -> str:
    """From the first line of the user's program on, if it is in the trace."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    here = os.path.abspath(program if program.endswith(".py") else os.path.join(program, "__main__.py"))
    for place, frame in enumerate(frames):
        if os.path.abspath(frame.filename) == here:
            return traceback.format_exc(limit=-(len(frames) - place))
    return traceback.format_exc()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a failed program may still wait for answers that never come
