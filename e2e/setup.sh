#!/usr/bin/env bash
# Makes sure of the tools named on the command line: go, clang, just, cargo-deny, cargo-fuzz; node stands for what a node needs, musl for
# Rust's standard library for static programs.
# Installs what it can (root on Debian or Ubuntu, or cargo); otherwise says in one line what to install.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# What the crate envtest asks for; a Go from 1.21 on fetches this toolchain by itself.
go_wanted=1.26.4

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
# at_least A B: version A is B or newer
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
# The newest Go that one of these modules asks for.
go_of() { sed -n 's/^go //p' "$@" | sort -V | tail -n 1; }

apt() {
  if ! have apt-get || [ "$(id -u)" -ne 0 ]; then return 1; fi
  say "installing $*"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return 0
  apt-get update -qq >/dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

ensure_go() { # version
  local go_wanted=$1
  have go || apt golang-go || { say "go is missing: install Go $go_wanted or newer"; exit 2; }
  local version
  version=$(go env GOVERSION); version=${version#go}
  if at_least "$version" "$go_wanted"; then return; fi
  if at_least "$version" 1.21 && [ "$(go env GOTOOLCHAIN)" != local ]; then return; fi
  say "go $version is too old: install Go $go_wanted or newer (or 1.21 and newer with GOTOOLCHAIN=auto, which fetches it)"
  exit 2
}

ensure_clang() {
  have clang && ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 && return
  have clang && [ -n "${LIBCLANG_PATH:-}" ] && return
  apt clang libclang-dev || { say "clang and libclang are missing: install them (Debian: apt-get install clang libclang-dev)"; exit 2; }
}

# Programs and headers with their Debian packages: kube-proxy's and the network plugins' (nft, conntrack), runc's (seccomp, gcc,
# pkg-config), the images' (busybox, gcc), and those of the scripts.
node_needs="nft:nftables conntrack:conntrack gcc:gcc pkg-config:pkg-config openssl:openssl ip:iproute2
  unshare:util-linux mount:mount /usr/include/stdlib.h:libc6-dev /usr/include/seccomp.h:libseccomp-dev"

ensure_node() {
  [ "$(id -u)" -eq 0 ] || { say "a node needs root: run this as root, or name a cluster of kind or k3d with KUBECONFIG and --context"; exit 2; }
  ensure_go "$(go_of "$here"/control-plane/kubernetes/*/go.mod "$here"/node/*/go.mod)"
  local need missing=()
  for need in $node_needs; do
    have "${need%:*}" || [ -e "${need%:*}" ] || missing+=("${need#*:}")
  done
  # In an image there are no libraries.
  if ! have busybox || ldd "$(command -v busybox)" >/dev/null 2>&1; then missing+=(busybox-static); fi
  if [ "${#missing[@]}" -eq 0 ]; then return; fi
  apt "${missing[@]}" || { say "a node needs more: install ${missing[*]}, or what your system calls them"; exit 2; }
}

ensure_musl() {
  local target
  target="$(uname -m)-unknown-linux-musl"
  cd "$here"
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] && return
  have rustup && say "installing Rust's standard library for $target" && rustup target add "$target" >/dev/null 2>&1 && return
  say "Rust's standard library for $target is missing: rustup target add $target"
  exit 2
}

ensure_cargo_tool() { # name
  have "$1" || { say "installing $1 with cargo"; cargo install --locked --quiet "$1" >&2; }
}

for tool in "$@"; do
  case "$tool" in
    go) ensure_go "$go_wanted" ;;
    clang) ensure_clang ;;
    node) ensure_node ;;
    musl) ensure_musl ;;
    just | cargo-deny | cargo-fuzz) ensure_cargo_tool "$tool" ;;
    *) say "setup.sh knows go, clang, node, musl, just, cargo-deny and cargo-fuzz, not $tool"; exit 2 ;;
  esac
done
