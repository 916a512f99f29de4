#!/bin/sh
# What a machine does with its containers: prepare NAME, serve NAME, ready NAME, stop NAME, watch. Run by systemd.
#
# Stands alone: POSIX sh, docker, curl, iptables. Reads settings, NAME.settings, NAME.run and NAME.env beside it; the cloud's
# own part is $HELPER (secret, login, leave, watch, gone). The ports are closed to everybody else until all models are
# loaded, so that no balancer takes a machine that cannot answer yet.
set -eu
HOME_DIR=${SLIPWAY_HOME:-/etc/slipway}
RUN=${SLIPWAY_RUN:-/run/slipway}
CONSOLE=${SLIPWAY_CONSOLE:-/dev/console}
export HOME="$RUN" DOCKER_CONFIG="$RUN/docker" PATH="$PATH:/usr/sbin:/sbin"
. "$HOME_DIR/settings"

say() {
  echo "slipway: $*"
  { echo "slipway: $*" >"$CONSOLE"; } 2>/dev/null || :
}

fail() {
  say "cannot start: $*"
  exit 1
}

# A failed start is tried again, each time after a longer pause; a good one is forgotten by nobody but `ready`.
pause() {
  failures=$(cat "$RUN/$NAME.failures" 2>/dev/null || echo 0)
  echo $((failures + 1)) >"$RUN/$NAME.failures"
  wait_s=0
  [ "$failures" -eq 0 ] || wait_s=$((BACKOFF_S << (failures > 6 ? 5 : failures - 1)))
  sleep "$wait_s"
}

# closed: nobody but this machine; open: everybody whom the network lets; leaving: answers, and fails health checks.
gate() {
  [ -n "$PORTS" ] || return 0
  chain="SLIPWAY-$NAME"
  if [ "$1" = leaving ]; then
    for range in $HEALTH_RANGES; do
      for port in $PORTS; do
        iptables -w -I "$chain" 2 -s "$range" -p tcp --dport "$port" -j REJECT --reject-with tcp-reset
      done
    done
    return 0
  fi
  iptables -w -N "$chain" 2>/dev/null || iptables -w -F "$chain"
  iptables -w -C INPUT -j "$chain" 2>/dev/null || iptables -w -I INPUT 1 -j "$chain"
  iptables -w -A "$chain" -i lo -j ACCEPT
  for port in $PORTS; do
    if [ "$1" = open ]; then
      iptables -w -A "$chain" -p tcp --dport "$port" -j ACCEPT
    else
      iptables -w -A "$chain" -p tcp --dport "$port" -j REJECT --reject-with tcp-reset
    fi
  done
}

driver() {
  [ -n "$DRIVER" ] || return 0
  [ -e "$RUN/driver" ] && return 0
  say "installing the driver"
  $DRIVER >"$RUN/driver.log" 2>&1 || fail "the driver: $(tail -n 1 "$RUN/driver.log")"
  mount --bind /var/lib/nvidia /var/lib/nvidia
  mount -o remount,exec /var/lib/nvidia
  /var/lib/nvidia/bin/nvidia-smi >"$RUN/driver.log" 2>&1 || fail "no device answers: $(tail -n 1 "$RUN/driver.log")"
  touch "$RUN/driver"
}

pull() {
  docker image inspect "$1" >/dev/null 2>&1 && return 0
  $HELPER login "$1" || fail "no right to pull $1"
  for left in 4 3 2 1 0; do
    docker pull --quiet "$1" >"$RUN/pull.log" 2>&1 && return 0
    sleep $((5 * (left > 0)))
  done
  fail "image $1: $(tail -n 1 "$RUN/pull.log")"
}

# Values of the secret store, for the server's environment; they exist in memory and in a file that root alone reads.
secrets() {
  : >"$RUN/$NAME.secrets.part"
  while read -r variable address; do
    [ -n "$variable" ] || continue
    value=$($HELPER secret "$address") || fail "secret $address of $variable cannot be read"
    printf "export %s='%s'\n" "$variable" "$(printf %s "$value" | sed "s/'/'\\\\''/g")" >>"$RUN/$NAME.secrets.part"
  done <<END
$SECRETS
END
  mv "$RUN/$NAME.secrets.part" "$RUN/$NAME.secrets"
}

# Writable folders, empty at each start, where programs may be run from (the rest of a host's disk may forbid it).
volumes() {
  for volume in $VOLUMES; do
    docker volume rm --force "$volume" >/dev/null
    docker volume create "$volume" >/dev/null
    place=$(docker volume inspect --format '{{.Mountpoint}}' "$volume")
    chown "$OWNER:$OWNER" "$place"
    chmod 1777 "$place"
  done
}

models() {
  [ -n "$INIT_IMAGE" ] || return 0
  pull "$INIT_IMAGE"
  docker rm --force "slipway-$NAME-models" >/dev/null 2>&1 || :
  (. "$HOME_DIR/$NAME.models.env" && . "$HOME_DIR/$NAME.models.run") >"$RUN/models.log" 2>&1 ||
    fail "models: $(tail -n 1 "$RUN/models.log")"
  cat "$RUN/models.log"
}

prepare() {
  pause
  rm -f "$RUN/$NAME.leaving"
  gate closed
  if [ -n "$RUNTIME" ] && ! command -v docker >/dev/null; then
    sh -c "$RUNTIME" >"$RUN/runtime.log" 2>&1 || fail "docker: $(tail -n 1 "$RUN/runtime.log")"
  fi
  driver
  for image in "$IMAGE" $BESIDE_IMAGES; do
    pull "$image"
  done
  secrets
  for container in "slipway-$NAME" $BESIDE; do
    docker rm --force "$container" >/dev/null 2>&1 || :
  done
  volumes
  models
}

serve() {
  . "$HOME_DIR/$NAME.env"
  . "$RUN/$NAME.secrets"
  devices=
  for device in $DEVICES; do
    [ ! -e "$device" ] || devices="$devices --device $device"
  done
  . "$HOME_DIR/$NAME.run"
}

healthy() {
  if [ -n "$READY_COMMAND" ]; then
    docker exec "slipway-$NAME" $READY_COMMAND >/dev/null 2>&1 || return 1
  fi
  for url in $READY_URLS; do
    curl --silent --fail --max-time 5 --output /dev/null "$url" || return 1
  done
}

# Of the container, or of docker where it could not even start one (a device that is not there).
last_words() {
  error=$(docker inspect --format '{{.State.Error}}' "slipway-$NAME" 2>/dev/null || :)
  [ -z "$error" ] || echo "$error"
  [ -z "$error" ] || return 0
  docker logs --tail 200 "slipway-$NAME" >"$RUN/$NAME.words" 2>&1 || :
  grep 'cannot start' "$RUN/$NAME.words" || tail -n 1 "$RUN/$NAME.words"
}

running() {
  [ -n "${MAINPID:-}" ] && kill -0 "$MAINPID" 2>/dev/null
}

ready() {
  began=$(date +%s)
  until healthy; do
    running || fail "the server ended: $(last_words | tail -n 1)"
    [ $(($(date +%s) - began)) -lt "$READY_S" ] || fail "not ready after $READY_S s: $(last_words | tail -n 1)"
    sleep 1
  done
  gate open
  rm -f "$RUN/$NAME.failures"
  say "$NAME is ready after $(($(date +%s) - began)) s"
  $HELPER ready || say "the group was not told that $NAME is ready"
}

# The balancer sends nothing more after this; until then all is answered.
leave() {
  touch "$RUN/$NAME.leaving"
  say "leaving: $1"
  gate leaving
  $HELPER leave || say "the balancer was not told: $1"
  sleep "$LAG_S"
}

stop() {
  running || return 0
  if [ ! -e "$RUN/$NAME.leaving" ] && [ "$(systemctl is-system-running)" = stopping ]; then
    leave "the machine stops"
  fi
  for container in "slipway-$NAME" $BESIDE; do
    docker stop "$container" >/dev/null
  done
}

watch() {
  why=$($HELPER watch)
  leave "$why"
  systemctl stop 'slipway-server.service'
  $HELPER gone || say "the group was not told: $why"
}

umask 077
mkdir -p "$RUN/docker"
verb=$1
NAME=${2:-server}
. "$HOME_DIR/$NAME.settings"
"$verb"
