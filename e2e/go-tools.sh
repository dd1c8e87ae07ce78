#!/usr/bin/env bash
# Builds programs from Go modules and prints the folder that holds them, which is keyed by the hash of go.mod and go.sum:
# go-tools.sh FOLDER NAME=PACKAGE..., where FOLDER has the two files.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=$(cd "$1" && pwd)
shift

key=$(cat "$modules/go.mod" "$modules/go.sum" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/podpolicy/$(basename "$modules")/$key"
mkdir -p "$out"

# One build at a time; a second caller waits and finds the work done.
exec 9>"$out/.lock"
flock 9

for tool in "$@"; do
  name=${tool%%=*}
  [ -x "$out/$name" ] && continue
  "$here/setup.sh" go >&2
  printf '%s\n' "building $name from Go modules into $out; the first time takes some minutes" >&2
  # Built beside its place and moved, so that an interrupted build leaves no half binary.
  (cd "$modules" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/$name.partial" "${tool#*=}") >&2
  mv "$out/$name.partial" "$out/$name"
done
printf '%s\n' "$out"
