#!/bin/sh
# Google Cloud's part of vm.sh: secret ADDRESS, login IMAGE, leave, watch, gone. Needs curl alone.
set -eu
METADATA=${SLIPWAY_METADATA_URL:-http://metadata.google.internal}
SECRETS=${SLIPWAY_SECRETS_URL:-https://secretmanager.googleapis.com}

ask() {
  curl --silent --show-error --fail --max-time 10 --retry 5 --retry-connrefused "$@"
}

# A field of a flat JSON object whose text has no escapes (tokens and base64).
field() {
  tr -d '\n' | sed -n "s/.*\"$1\" *: *\"\\([^\"\\\\]*\\)\".*/\\1/p"
}

token() {
  ask --header 'Metadata-Flavor: Google' "$METADATA/computeMetadata/v1/instance/service-accounts/default/token" |
    field access_token
}

# The header comes from a file: what stands in a command line is seen by everybody.
secret() {
  value=$(printf 'Authorization: Bearer %s\n' "$(token)" | ask --header @- "$SECRETS/v1/$1:access" | field data)
  [ -n "$value" ] || exit 1
  printf %s "$value" | tr '_-' '/+' | base64 -d
}

login() {
  registry=${1%%/*}
  case $registry in
  *.pkg.dev | gcr.io | *.gcr.io)
    token | docker login --username oauth2accesstoken --password-stdin "https://$registry" >/dev/null
    ;;
  esac
}

# Nothing to tell: the probes are refused, and the order to stop is the notice (a signal of the machine's power).
ready() { :; }
leave() { :; }
gone() { :; }

verb=$1
shift
"$verb" "$@"
