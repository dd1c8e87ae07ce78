#!/usr/bin/env bash
# Builds yq, which `just bench` compares with, from Go modules, and prints its path, which is keyed by the hash of
# go.mod and go.sum.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

key=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/podpolicy/yq/$key"
mkdir -p "$out"

# One build at a time; a second caller waits and finds the work done.
exec 9>"$out/.lock"
flock 9

if [ ! -x "$out/yq" ]; then
  "$here/../setup.sh" go >&2
  # Built beside its place and moved, so that an interrupted build leaves no half binary.
  (cd "$here" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/yq.partial" \
    github.com/mikefarah/yq/v4) >&2
  mv "$out/yq.partial" "$out/yq"
fi
printf '%s\n' "$out/yq"
