"""`python -m engine preview|up|destroy|refresh|settle|export|import --project DIR --stack NAME`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from engine import EngineError, Event, Locked, Refused, Request, Result, export_state, import_state, run, settle

OK, FAILED, USAGE, LOCKED, REFUSED = 0, 1, 2, 3, 4


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m engine", description="Runs a Pulumi Python project without Pulumi.")
    commands = root.add_subparsers(dest="command", required=True)
    for name in ("preview", "up", "destroy", "refresh", "settle", "export", "import"):
        sub = commands.add_parser(name)
        sub.add_argument("--project", type=Path, default=Path())
        sub.add_argument("--stack", required=True)
        sub.add_argument("--state-dir", type=Path, help="default: .slipway/state in the project")
        if name in ("preview", "up", "destroy", "refresh"):
            sub.add_argument("--continue-on-error", action="store_true")
            sub.add_argument("--expect-no-changes", action="store_true")
            sub.add_argument("--parallel", type=int, default=16)
            sub.add_argument("--settle", action="store_true", help="first find out what interrupted runs left")
            sub.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="for this run only")
            sub.add_argument("--json", action="store_true")
            sub.add_argument("--crash-at", metavar="before:N|after:N", help="for tests: die around the N-th write")
        if name == "export":
            sub.add_argument("--show-secrets", action="store_true")
        if name == "import":
            sub.add_argument("--file", type=Path, help="default: standard input")
    return root


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        return _command(args)
    except Locked as e:
        code, message = LOCKED, str(e)
    except Refused as e:
        code, message = REFUSED, str(e)
    except EngineError as e:
        code, message = USAGE, str(e)
    print(f"error: {message}", file=sys.stderr)
    return code


def _command(args: argparse.Namespace) -> int:
    if args.command == "export":
        document = export_state(args.project, args.stack, args.state_dir, show_secrets=args.show_secrets)
        print(json.dumps(document, indent=1))
    elif args.command == "import":
        text = args.file.read_text() if args.file else sys.stdin.read()
        import_state(args.project, args.stack, json.loads(text), args.state_dir)
    elif args.command == "settle":
        for line in settle(args.project, args.stack, args.state_dir):
            print(line)
    else:
        return _run(args)
    return OK


def _run(args: argparse.Namespace) -> int:
    pairs = [pair.partition("=") for pair in args.config]
    result = run(
        Request(
            command=args.command,
            project=args.project,
            stack=args.stack,
            state_dir=args.state_dir,
            config={key: value for key, _, value in pairs},
            parallel=args.parallel,
            continue_on_error=args.continue_on_error,
            expect_no_changes=args.expect_no_changes,
            settle=args.settle,
            crash_at=args.crash_at,
            on_event=None if args.json else _show,
        )
    )
    if args.json:
        print(json.dumps(_as_json(result), indent=1))
    else:
        told = ", ".join(f"{n} {op}" for op, n in sorted(result.changes.items()))
        print(f"{args.command} {'done' if result.ok else 'failed'}: {told or 'nothing to do'}")
    return OK if result.ok else FAILED


def _show(event: Event) -> None:
    if event.kind in ("done", "failed"):
        print(f"{event.op:>8} {event.name} {'' if event.kind == 'done' else event.kind}".rstrip(), flush=True)
    elif event.kind == "log":
        print(f"{event.op}: {event.detail}", file=sys.stderr if event.op == "error" else sys.stdout, flush=True)
    elif event.kind == "out":
        print(event.detail, flush=True)


def _as_json(result: Result) -> dict[str, object]:
    shown = {k: "[secret]" if k in result.secret_outputs else x for k, x in result.outputs.items()}
    return {
        "ok": result.ok,
        "steps": [
            {"op": s.op, "urn": s.urn, "ok": s.ok, **({"keys": list(s.keys)} if s.keys else {})} for s in result.steps
        ],
        "changeSummary": dict(result.changes),
        "outputs": shown,
        "diagnostics": [{"severity": d.severity, "message": d.message, "urn": d.urn} for d in result.diagnostics],
        "settled": list(result.settled),
    }


if __name__ == "__main__":
    sys.exit(main())
