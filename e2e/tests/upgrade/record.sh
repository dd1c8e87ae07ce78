#!/usr/bin/env bash
# Records what a version of the operator leaves in a cluster, for tests/upgrade.rs: record.sh VERSION PROGRAM
# Wants an API server without anything of PodPolicy in $KUBECONFIG, such as the one that the program `control-plane` starts, and kubectl.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$1 program=$2
to=$here/$version
mkdir -p "$to/crds"

wait_for() { kubectl wait --timeout 60s "$@" >/dev/null; }

"$program" crd >"$to/crds/crds.yaml"
kubectl apply --server-side -f "$to/crds"
wait_for --for condition=Established crd/podpolicies.podpolicy.dev crd/clusterpodpolicies.podpolicy.dev
kubectl create -f "$here/scene.yaml"
"$program" run --admission native --metrics-address "" &
operator=$!
trap 'kill "$operator"' EXIT
wait_for --namespace upgrade --for condition=Ready podpolicy/standard
wait_for --for condition=Ready clusterpodpolicy/baseline
kubectl create -f - <<EOF
apiVersion: v1
kind: Pod
metadata: { name: new, namespace: upgrade, labels: { app: web, tier: back } }
spec: { containers: [{ name: web, image: example.invalid/web, ports: [{ name: http, containerPort: 8080 }] }] }
EOF
wait_for --namespace upgrade --for jsonpath='{.status.pods.matched}=2' podpolicy/standard
wait_for --for jsonpath='{.status.pods.matched}=2' clusterpodpolicy/baseline
{
  kubectl get --namespace upgrade pods --output yaml
  echo ---
  kubectl get --all-namespaces podpolicies,clusterpodpolicies --output yaml
  echo ---
  kubectl get mutatingadmissionpolicies,mutatingadmissionpolicybindings --output yaml
} >"$to/left.yaml"
