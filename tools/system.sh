#!/bin/sh
# What Slipway needs from the system: a Python with venv, and the shared libpython that Triton's Python stub loads.
# As root on Debian or Ubuntu it installs what is missing; elsewhere it names it and stops.
set -u
python=${PYTHON:-python3}

if ! command -v "$python" >/dev/null 2>&1; then
  missing="python3 python3-venv"
else
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  case "$version" in
    3.11 | 3.12) ;;
    *)
      echo "python: $python is Python $version; allowed: 3.11, 3.12 (the pinned servers ship for these)." >&2
      echo "To fix: install one of them and run 'make PYTHON=python3.11 ...'." >&2
      exit 1
      ;;
  esac
  missing=""
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python$version-venv"
  # The stub is linked against libpythonX.Y.so.1.0; without it Triton hangs instead of failing.
  "$python" - "$version" <<'P' || missing="$missing libpython$version"
import ctypes, sys
try:
    ctypes.CDLL(f"libpython{sys.argv[1]}.so.1.0")
except OSError:
    sys.exit(1)
P
fi

[ -z "$missing" ] && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "Installing from the system's packages:$missing"
  # shellcheck disable=SC2086
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/tmp/slipway-apt.$$ 2>&1 || {
    cat /tmp/slipway-apt.$$ >&2
    rm -f /tmp/slipway-apt.$$
    exit 1
  }
  rm -f /tmp/slipway-apt.$$
  exit 0
fi
echo "The system lacks:$missing" >&2
echo "To fix (Debian, Ubuntu): sudo apt-get install$missing" >&2
exit 1
