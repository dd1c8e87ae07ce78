#!/usr/bin/env bash
# Writes go.mod and go.sum for a version of Kubernetes: pin.sh v1.37.2 makes kubernetes/1.37, from which build.sh builds.
#
# Only versions of which the Go module proxy has all staging modules can be built; some patch releases lack one: take the one before.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${1:-}
if ! [[ $version =~ ^v1\.([0-9]+)\.[0-9]+$ ]]; then printf '%s\n' "usage: pin.sh v1.MINOR.PATCH" >&2; exit 2; fi
minor=${BASH_REMATCH[1]}
out="$here/kubernetes/1.$minor"

"$here/../setup.sh" go
published=$(cd / && go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)",\{0,1\}/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Kubernetes' own go.mod points its staging modules at folders; published, they have versions: v0.37.2 for v1.37.2.
{
  printf '%s\n\n' "module controlplane"
  # Lines that name tools need Go 1.24.
  wanted=$(sed -n 's/^go //p' "$published")
  printf 'go %s\n\n' "$(printf '%s\n1.24.0\n' "$wanted" | sort -V | tail -n 1)"
  printf '%s\n\n' "require k8s.io/kubernetes $version"
  printf '%s\n' "replace ("
  sed -n 's#^[[:space:]]*\(replace \)\{0,1\}\(k8s.io/[a-z-]*\) => ./staging.*#\t\2 => \2 v0.'"${version#v1.}"'#p' "$published"
  printf '%s\n\n' ")"
  printf '%s\n' "tool ("
  printf '\t%s\n' go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,kubectl,kubelet}
  printf '%s\n' ")"
} >"$work/go.mod"

(cd "$work" && GOFLAGS=-mod=mod go mod tidy) >&2
mkdir -p "$out"
mv "$work/go.mod" "$work/go.sum" "$out/"
printf '%s\n' "pinned Kubernetes $version in $out"
