#!/usr/bin/env bash
# Builds the Lua interpreter that Argo CD runs health scripts with, from Go modules, and prints its path, which is keyed by the hash of
# go.mod and go.sum.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

key=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/podpolicy/lua/$key"
mkdir -p "$out"

# One build at a time; a second caller waits and finds the work done.
exec 9>"$out/.lock"
flock 9

if [ ! -x "$out/glua" ]; then
  "$here/../setup.sh" go >&2
  # Built beside its place and moved, so that an interrupted build leaves no half binary.
  (cd "$here" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/glua.partial" \
    github.com/yuin/gopher-lua/cmd/glua) >&2
  mv "$out/glua.partial" "$out/glua"
fi
printf '%s\n' "$out/glua"
