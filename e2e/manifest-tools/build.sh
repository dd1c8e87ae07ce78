#!/usr/bin/env bash
# Builds kustomize and helm from Go modules and prints the folder that holds them, which is keyed by the hash of go.mod and go.sum.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s\n' "$*" >&2; }

key=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/podpolicy/manifest-tools/$key"
mkdir -p "$out"

# One build at a time; a second caller waits and finds the work done.
exec 9>"$out/.lock"
flock 9

for tool in kustomize helm; do
  [ -x "$out/$tool" ] && continue
  case "$tool" in
    kustomize) package=sigs.k8s.io/kustomize/kustomize/v5 ;;
    helm) package=helm.sh/helm/v4/cmd/helm ;;
  esac
  "$here/../setup.sh" go >&2
  say "building $tool from Go modules into $out; the first time takes some minutes"
  # Built beside its place and moved, so that an interrupted build leaves no half binary.
  (cd "$here" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/$tool.partial" "$package") >&2
  mv "$out/$tool.partial" "$out/$tool"
done
printf '%s\n' "$out"
