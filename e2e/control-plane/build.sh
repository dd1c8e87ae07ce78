#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-controller-manager and kubectl from Go modules and prints the folder that holds them.
#
# Arguments name other tools instead: those of a node (e2e/node), kube-scheduler, kubelet and kube-proxy, come from the same modules.
# KUBERNETES=1.30 builds another version; kubernetes/ has those that are pinned, pin.sh adds one.
# The folder is keyed by the hash of go.mod and go.sum, so a new Kubernetes version never meets old binaries.
# KUBEBUILDER_ASSETS, when set, wins: nothing is built, and the binaries must be in it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=("$@")
[ "$#" -gt 0 ] || tools=(etcd kube-apiserver kube-controller-manager kubectl)

say() { printf '%s\n' "$*" >&2; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  for tool in "${tools[@]}"; do
    [ -x "$KUBEBUILDER_ASSETS/$tool" ] || { say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no executable $tool: put it there, or unset KUBEBUILDER_ASSETS to build it"; exit 2; }
  done
  printf '%s\n' "$KUBEBUILDER_ASSETS"
  exit 0
fi

wanted=${KUBERNETES:-$(cat "$here/kubernetes/default")}
modules="$here/kubernetes/$wanted"
[ -f "$modules/go.mod" ] || { say "no Kubernetes $wanted is pinned here, only $(cd "$here/kubernetes" && printf '%s ' */ | tr -d /)"; exit 2; }
version=$(sed -n 's|^\(require\)\{0,1\}[[:space:]]*k8s.io/kubernetes \(v[0-9.]*\).*|\2|p' "$modules/go.mod")
key=$(cat "$modules/go.mod" "$modules/go.sum" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/podpolicy/control-plane/$version-$key"
mkdir -p "$out"

find_missing() {
  missing=()
  for tool in "${tools[@]}"; do [ -x "$out/$tool" ] || missing+=("$tool"); done
  if [ "${#missing[@]}" -eq 0 ]; then
    printf '%s\n' "$out"
    exit 0
  fi
}

# Whoever misses nothing need not wait for a build of other tools.
find_missing
# One build at a time; a second caller waits and finds the work done.
exec 9>"$out/.lock"
flock 9
find_missing

"$here/../setup.sh" go >&2

IFS=. read -r major minor _ <<<"${version#v}"
stamp="k8s.io/component-base/version"
ldflags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor -X $stamp.gitTreeState=clean"
say "building ${missing[*]} ($version) from Go modules into $out; the first time takes some ten minutes"
for tool in "${missing[@]}"; do
  case "$tool" in
    etcd) package=go.etcd.io/etcd/server/v3 ;;
    *) package="k8s.io/kubernetes/cmd/$tool" ;;
  esac
  started=$SECONDS
  # Built beside its place and moved, so that an interrupted build leaves no half binary.
  (cd "$modules" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$out/$tool.partial" "$package") >&2
  mv "$out/$tool.partial" "$out/$tool"
  say "built $tool in $((SECONDS - started)) s"
done
printf '%s\n' "$out"
