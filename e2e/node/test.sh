#!/usr/bin/env bash
# Runs the tests on a real node: test.sh [--context NAME] [ARGUMENTS of the test program].
#
# With --context they run on that cluster of kind or k3d, from the file that KUBECONFIG names, and need no root; those that need a node of
# their own are left out. The operator is installed there, and is gone again at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Installed objects have this label. What is in the namespace goes with it.
uninstall() {
  local kinds=crd,namespace,clusterrole,clusterrolebinding,priorityclass,validatingadmissionpolicy,validatingadmissionpolicybinding
  "$(e2e/control-plane/build.sh kubectl)/kubectl" --context "$PODPOLICY_E2E_CONTEXT" delete "$kinds" --selector e2e.example.com/installed >&2
}

if [ "${1:-}" = --context ]; then
  export PODPOLICY_E2E_CONTEXT=${2:?--context needs the name of a context}
  : "${KUBECONFIG:?set it to the file that has context $PODPOLICY_E2E_CONTEXT}"
  shift 2
  set -- --skip harness:: --skip takeover:: --skip webhook:: "$@"
  trap uninstall EXIT
else
  unset PODPOLICY_E2E_CONTEXT
  e2e/setup.sh node
fi
PODPOLICY_E2E_IMAGE=$(e2e/node/operator.sh)
export PODPOLICY_E2E_IMAGE
# They mostly wait: for probes, for back-offs, for grace periods.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-12}
cargo test --locked -p podpolicy-e2e --features node --test node -- "$@"
