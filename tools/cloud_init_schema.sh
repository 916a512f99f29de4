#!/bin/sh
# Puts cloud-init's own schema of user data into a folder, for the tests: from the system's cloud-init, or out of Debian's
# package without installing it. Where neither can be had it says so, and the test that needs it is skipped.
set -u
target=$1/schema-cloud-config-v1.json
installed=/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json
[ -s "$target" ] && exit 0
mkdir -p "$1"
if [ -s "$installed" ]; then
  cp "$installed" "$target"
  exit 0
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null &&
  (cd "$place" && apt-get download --quiet cloud-init >"$place/log" 2>&1) &&
  dpkg-deb -x "$place"/cloud-init_*.deb "$place/x" && cp "$place/x$installed" "$target"; then
  exit 0
fi
echo "cloud-init's schema cannot be had here (apt-get download cloud-init): the test of user data is skipped" >&2
