#!/usr/bin/env bash
# Builds what a node has beside Kubernetes' own programs (containerd, runc, network plugins, images) and prints the folder.
#
# Arguments name what is wanted; the default is all of it. The folder is keyed by the hash of all that it is made of.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=(containerd containerd-shim-runc-v2 ctr runc ptp host-local loopback portmap pause.tar busybox.tar kubectl.tar)
wanted=("$@")
[ "$#" -gt 0 ] || wanted=("${all[@]}")

say() { printf '%s\n' "$*" >&2; }

key=$(cat "$here"/*/go.{mod,sum} "$here"/../control-plane/kubernetes/"$(cat "$here/../control-plane/kubernetes/default")"/go.{mod,sum} "$here"/{build,image}.sh "$here/pause.c" | sha256sum | cut -c1-12)
out="${XDG_CACHE_HOME:-$HOME/.cache}/podpolicy/node/$key"
mkdir -p "$out"

find_missing() {
  missing=()
  for name in "${wanted[@]}"; do [ -e "$out/$name" ] || missing+=("$name"); done
}

go_build() { # module package [arguments]: builds the tool into $partial
  local module=$1 package=$2
  shift 2
  (cd "$here/$module" && GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false "$@" -o "$partial" "$package") >&2
}

# A root filesystem with these files in /bin, busybox's other names included, as an image that runs the first of them.
pack() { # file...
  local root name
  root=$(mktemp -d)
  chmod 755 "$root"
  mkdir "$root/bin" "$root/tmp"
  chmod 1777 "$root/tmp"
  cp "$@" "$root/bin/"
  name=$(basename "$1")
  if [ "$name" = busybox ]; then
    for applet in $("$1" --list); do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done
  fi
  "$here/image.sh" "podpolicy.invalid/$name:1" "$root" "$partial" "/bin/$name"
  rm -rf "$root"
}

build() { # name
  local containerd=github.com/containerd/containerd/v2/cmd plugins=github.com/containernetworking/plugins/plugins
  local stripped=(-ldflags "-s -w")
  case "$1" in
    containerd | containerd-shim-runc-v2 | ctr) CGO_ENABLED=0 go_build containerd "$containerd/$1" "${stripped[@]}" ;;
    # containerd gives each container a seccomp profile, for which runc needs libseccomp.
    runc) CGO_ENABLED=1 go_build runc github.com/opencontainers/runc -tags seccomp "${stripped[@]}" ;;
    ptp | loopback) CGO_ENABLED=0 go_build network "$plugins/main/$1" "${stripped[@]}" ;;
    host-local) CGO_ENABLED=0 go_build network "$plugins/ipam/$1" "${stripped[@]}" ;;
    portmap) CGO_ENABLED=0 go_build network "$plugins/meta/$1" "${stripped[@]}" ;;
    pause.tar)
      gcc -Os -static -s -o "$out/pause" "$here/pause.c"
      pack "$out/pause"
      ;;
    busybox.tar) pack "$(command -v busybox)" ;;
    kubectl.tar) pack "$("$here/../control-plane/build.sh" kubectl)/kubectl" ;;
    *) say "build.sh knows ${all[*]}, not $1"; exit 2 ;;
  esac
}

find_missing
if [ "${#missing[@]}" -gt 0 ]; then
  # One build at a time; a second caller waits and finds the work done.
  exec 9>"$out/.lock"
  flock 9
  find_missing
  for name in "${missing[@]}"; do
    started=$SECONDS
    # Built beside its place and moved, so that an interrupted build leaves nothing half done.
    partial="$out/$name.partial"
    build "$name"
    mv "$partial" "$out/$name"
    say "built $name in $((SECONDS - started)) s"
  done
fi
printf '%s\n' "$out"
