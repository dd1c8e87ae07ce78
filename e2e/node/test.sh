#!/usr/bin/env bash
# Runs the tests on a real node: test.sh [--context NAME] [ARGUMENTS of the test program].
#
# With --context they run on that cluster of kind or k3d, from the file that KUBECONFIG names, and need no root; those of the harness, which
# start nodes, are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ "${1:-}" = --context ]; then
  export PODPOLICY_E2E_CONTEXT=${2:?--context needs the name of a context}
  : "${KUBECONFIG:?set it to the file that has context $PODPOLICY_E2E_CONTEXT}"
  shift 2
  set -- --skip harness:: "$@"
else
  unset PODPOLICY_E2E_CONTEXT
  e2e/setup.sh node
fi
cargo test --locked -p podpolicy-e2e --features node --test node -- "$@"
