"""`docker` of a test machine: a container is a process of this machine, with the same command, environment, folders and
stop time-out; paths of mounts stand for their sources. It says what it was asked in calls.jsonl of its folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["STAND_IN_STATE"])
VALUED = """--name --stop-timeout --network --pull --user --cap-drop --security-opt --log-driver --log-opt --mount
--tmpfs --restart --ulimit --shm-size --volume --gpus --env --device --entrypoint"""
PLAIN = ("--detach", "--read-only", "--privileged", "--rm")


def options(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Flags as docker reads them: up to the image; one that it does not know is an error."""
    found: dict[str, list[str]] = {}
    while words and words[0].startswith("--"):
        flag = words.pop(0)
        if flag in VALUED.split():
            found.setdefault(flag, []).append(words.pop(0))
        elif flag in PLAIN:
            found[flag] = []
        else:
            sys.exit(f"unknown flag: {flag}")
    return found, words


def mounted(flags: dict[str, list[str]]) -> dict[str, str]:
    """Path in the container -> folder of this machine."""
    found = {}
    for mount in flags.get("--mount", ()):
        words = dict(w.partition("=")[::2] for w in mount.split(","))
        source = words["source"] if words["type"] == "bind" else str(STATE / "volumes" / words["source"])
        if not Path(source).exists():
            sys.exit(f"no such source: {source}")
        found[words["target"]] = source
    return found


def replaced(word: str, mounts: dict[str, str]) -> str:
    for target, source in mounts.items():
        if word == target or word.startswith(f"{target}/"):
            return source + word[len(target) :]
    return word


def moved(value: str, mounts: dict[str, str]) -> str:
    """Paths in settings that are passed as JSON."""
    for target, source in mounts.items():
        value = value.replace(f'"{target}"', f'"{source}"')
    return value


def run(words: list[str]) -> int:
    whole = list(words)
    flags, (image, *arguments) = options(words)
    mounts, (name,) = mounted(flags), flags["--name"]
    record = STATE / f"{name}.json"
    if record.exists():
        sys.exit(f"the name {name} is taken")
    if image not in (STATE / "images").read_text().split():
        sys.exit(f"{image} was not pulled")
    if (STATE / "start-error").exists():  # as for a device that is not there
        record.write_text(json.dumps({"error": (STATE / "start-error").read_text()}))
        return 125
    if "--detach" in flags:  # on its own from here, as the daemon would keep it
        again = [sys.executable, "-I", "-S", __file__, "run", *(w for w in whole if w != "--detach")]
        subprocess.Popen(again, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not record.exists():
            time.sleep(0.02)
        return 0
    command = [replaced(w, mounts) for w in (*flags["--entrypoint"], *arguments)]
    command[0] = {"python3": sys.executable}.get(command[0], command[0])
    given = {n: moved(os.environ[n], mounts) for n in flags.get("--env", ())}
    kept = json.loads(os.environ.get("STAND_IN_ENV", "{}"))  # what the image would set
    place = {"TMPDIR": mounts.get("/tmp", "/tmp")}
    with (STATE / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**kept, **place, **given}, stdout=log, stderr=log, start_new_session=True
        )
        stop_s = flags.get("--stop-timeout", ["10"])[0]
        record.write_text(json.dumps({"pid": process.pid, "stop_s": float(stop_s), "mounts": mounts}))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: process.send_signal(n))
        status = process.wait()
    if "--rm" in flags:
        sys.stdout.write((STATE / f"{name}.log").read_text())
        record.unlink()
    return status


def stop(name: str) -> int:
    said = json.loads((STATE / f"{name}.json").read_text())
    os.kill(said["pid"], signal.SIGTERM)
    end = time.monotonic() + said["stop_s"]
    while Path(f"/proc/{said['pid']}/stat").exists():
        if time.monotonic() > end:
            (STATE / "killed").touch()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(said["pid"], signal.SIGKILL)
            return 0
        time.sleep(0.05)
    return 0


def volume(verb: str, words: list[str]) -> int:
    place = STATE / "volumes" / words[-1]
    if verb == "rm":
        shutil.rmtree(place, ignore_errors=True)
    elif verb == "create":
        place.mkdir(parents=True)
    else:
        print(place)
    return 0


def main(words: list[str]) -> int:
    with (STATE / "calls.jsonl").open("a") as file:
        file.write(json.dumps(words) + "\n")
    images = STATE / "images"
    match words:
        case ["run", *rest]:
            return run(rest)
        case ["stop", name]:
            return stop(name)
        case ["logs", "--tail", _, name]:
            sys.stdout.write((STATE / f"{name}.log").read_text())
        case ["inspect", "--format", "{{.State.Error}}", name]:
            print(json.loads((STATE / f"{name}.json").read_text()).get("error", ""))
        case ["rm", "--force", name]:
            (STATE / f"{name}.json").unlink(missing_ok=True)
            (STATE / f"{name}.log").unlink(missing_ok=True)
        case ["volume", verb, *rest]:
            return volume(verb, rest)
        case ["image", "inspect", image]:
            return 0 if images.exists() and image in images.read_text().split() else 1
        case ["pull", "--quiet", image]:
            if image.startswith("missing/"):
                sys.exit(f"manifest for {image} not found")
            images.write_text((images.read_text() if images.exists() else "") + image + "\n")
        case ["exec", name, *command]:
            mounts = json.loads((STATE / f"{name}.json").read_text())["mounts"]
            return subprocess.run([replaced(w, mounts) for w in command], check=False).returncode
        case _:
            sys.exit(f"docker does not know: {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
