#!/usr/bin/env bash
# Builds yq, which `just bench` compares with, and prints its path.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$("$here/../go-tools.sh" "$here" yq=github.com/mikefarah/yq/v4)
printf '%s\n' "$folder/yq"
