#!/usr/bin/env bash
# Builds kustomize and helm, and prints the folder that holds them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../go-tools.sh" "$here" kustomize=sigs.k8s.io/kustomize/kustomize/v5 helm=helm.sh/helm/v4/cmd/helm
