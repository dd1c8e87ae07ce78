#!/usr/bin/env bash
# Builds the Lua interpreter that Argo CD runs health scripts with, and prints its path.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$("$here/../go-tools.sh" "$here" glua=github.com/yuin/gopher-lua/cmd/glua)
printf '%s\n' "$folder/glua"
