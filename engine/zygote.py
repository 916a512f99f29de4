"""Keeps imported what the programs of one Python import, and runs each in a fork; stands alone, as shim.py does.

Most of a program's time goes into importing cloud SDKs. The first program runs in a fork of a process that has imported
nothing; it reports what it imported from the standard library and from installed packages, never from the project.
While the engine goes on, this process imports the same, and the next fork finds it there.

Orders come over a socket, a line of JSON each with the standard output to use: {"args", "cwd", "env"}. Answers:
{"pid"}, then {"code"}. When the other end of the socket is gone, so is its program, and so is this process.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
import sysconfig
import traceback

import shim  # type: ignore[import-not-found]  # beside this file; it takes this folder from the path

INSTALLED = tuple({sysconfig.get_paths()[k] + os.sep for k in ("stdlib", "platstdlib", "purelib", "platlib")})


def serve(control: socket.socket) -> None:
    refused: set[str] = set()
    while (order := _receive(control)) is not None:
        values, out = order
        report = os.memfd_create("modules")
        pid = os.fork()
        if pid == 0:
            control.close()
            _run(values, out, report)
        os.close(out)
        _tell(control, {"pid": pid})
        code = _await(control, pid)
        _tell(control, {"code": code})
        _import(report, refused)
        os.close(report)


def _receive(control: socket.socket) -> tuple[dict[str, object], int] | None:
    text, fds = b"", []
    while not text.endswith(b"\n"):
        part, more, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not part:
            return None
        text += part
        fds += more
    return json.loads(text), fds[0]


def _tell(control: socket.socket, answer: dict[str, int]) -> None:
    control.sendall(json.dumps(answer).encode() + b"\n")


def _await(control: socket.socket, pid: int) -> int:
    """The exit status; a program whose engine has gone is ended."""
    end = os.pidfd_open(pid)
    ready, _, _ = select.select([end, control.fileno()], [], [])
    if end not in ready:  # between an order and its last answer nothing is sent: the other end was closed
        os.kill(pid, signal.SIGKILL)
        os._exit(1)
    os.close(end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(order: dict[str, object], out: int, report: int) -> None:
    """In the fork: as if it had been started with these arguments, folder and environment."""
    code = 1
    try:
        os.setpgid(0, 0)  # Ctrl-C is for the engine, which ends its steps in order
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(str(order["cwd"]))
        os.environ.clear()
        os.environ.update(order["env"])  # type: ignore[call-overload]
        sys.argv = ["shim.py", "--parent", str(os.getppid()), *order["args"]]  # type: ignore[misc]
        code = shim.main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(report, "\n".join(_imported()).encode())
        os._exit(code)


def _imported() -> list[str]:
    """In the order of their import."""
    found = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and spec.name == name and str(spec.origin).startswith(INSTALLED):
            found.append(name)
    return found


def _import(report: int, refused: set[str]) -> None:
    size = os.lseek(report, 0, os.SEEK_END)
    for name in os.pread(report, size, 0).decode().split("\n"):
        if name and name not in sys.modules and name not in refused:
            try:
                importlib.import_module(name)
            except Exception:  # what cannot be imported by itself is left to the programs, which say so
                refused.add(name)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end)
