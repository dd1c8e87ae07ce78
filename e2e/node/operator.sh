#!/usr/bin/env bash
# Builds the operator's image from the working tree, as the node's tests install it, and prints where the archive is.
#
# The binary is static, as the one that users get, but built like tests are: a release build takes longer than all tests here. Programs that
# run while it is built (build scripts, macros) are those of any other build of tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

e2e/setup.sh clang musl >&2
target="$(uname -m)-unknown-linux-musl"
folder="${CARGO_TARGET_DIR:-target}/$target/debug"
# The crate ring has C and assembly, which needs no C library.
export "CC_${target//-/_}=clang" CARGO_PROFILE_DEV_DEBUG=false CARGO_PROFILE_DEV_STRIP=symbols
cargo build --locked -p podpolicy --target "$target" >&2
e2e/image.sh "$folder/podpolicy" "$folder/podpolicy.tar" podpolicy.invalid/podpolicy:1 >&2
realpath "$folder/podpolicy.tar"
