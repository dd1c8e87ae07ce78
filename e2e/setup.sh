#!/usr/bin/env bash
# Makes sure of the tools named on the command line: go, clang, just, cargo-deny, cargo-fuzz.
# Installs what it can (root on Debian or Ubuntu, or cargo); otherwise says in one line what to install.
set -euo pipefail

# What the modules in e2e/control-plane ask for; a Go from 1.21 on fetches this toolchain by itself.
go_wanted=1.26.4

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
# at_least A B: version A is B or newer
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

apt() {
  if ! have apt-get || [ "$(id -u)" -ne 0 ]; then return 1; fi
  say "installing $*"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return 0
  apt-get update -qq >/dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

ensure_go() {
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

ensure_cargo_tool() { # name
  have "$1" || { say "installing $1 with cargo"; cargo install --locked --quiet "$1" >&2; }
}

for tool in "$@"; do
  case "$tool" in
    go) ensure_go ;;
    clang) ensure_clang ;;
    just | cargo-deny | cargo-fuzz) ensure_cargo_tool "$tool" ;;
    *) say "setup.sh knows go, clang, just, cargo-deny and cargo-fuzz, not $tool"; exit 2 ;;
  esac
done
