#!/usr/bin/env bash
# Runs the tests on several versions of Kubernetes: matrix.sh [VERSION...]; without one, on all that are pinned in control-plane/kubernetes.
#
# Prints a table in Markdown, a row for each version, which docs/kubernetes-versions.md shows (UPDATE=1 writes it there). A cell says how many
# tests passed, and how many do not apply to the version because its API server lacks what they test. Logs are in target/matrix.
# It ends with 1 where a test failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
versions=("$@")
[ "$#" -gt 0 ] || mapfile -t versions < <(cd "$here/control-plane/kubernetes" && printf '%s\n' */ | tr -d /)
page=docs/kubernetes-versions.md

# What a column shows, and the tests that show it.
columns=(
  "installation:manifests"
  "bad specs:bad_specs"
  "creation:differential birth native"
  "webhook:webhook"
  "guard:guard"
  "live pods, undo:live_pods workloads selector_impact"
  "rollout:rollout"
  "cleanup:cleanup"
)

say() { printf '%s\n' "$*" >&2; }

logs="${CARGO_TARGET_DIR:-target}/matrix"
mkdir -p "$logs"
cargo build --locked --quiet -p podpolicy
failed=false

# cell VERSION TEST...: what a cell shows
cell() {
  local version=$1 passed=0 skipped=0 wrong=0 log test
  shift
  for test in "$@"; do
    log="$logs/$version-$test.log"
    if ! KUBERNETES=$version cargo test --locked --quiet -p podpolicy-e2e --test "$test" >"$log" 2>&1; then wrong=$((wrong + 1)); say "$version: $test failed, see $log"; fi
    passed=$((passed + $(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")))
    skipped=$((skipped + $(grep -c '^does not apply to Kubernetes' "$log" || true)))
  done
  if [ "$wrong" -gt 0 ]; then printf 'FAILED'; return; fi
  printf '%s' "$((passed - skipped))"
  if [ "$skipped" -gt 0 ]; then printf ' (%s do not apply)' "$skipped"; fi
}

rows=()
for version in "${versions[@]}"; do
  folder=$(KUBERNETES=$version "$here/control-plane/build.sh")
  patch=$(basename "$folder" | sed 's/-.*//')
  offers=$(KUBERNETES=$version cargo run --quiet --locked -p podpolicy-e2e --bin offers)
  row="| $patch | ${offers%%$'\t'*} |"
  for column in "${columns[@]}"; do
    read -ra tests <<<"${column#*:}"
    say "$(date +%T) Kubernetes $patch: ${column%%:*}"
    value=$(cell "$version" "${tests[@]}")
    if [[ $value == FAILED ]]; then failed=true; fi
    row+=" $value |"
  done
  row+=" ${offers#*$'\t'} | $(date +%F) |"
  say "$row"
  rows+=("$row")
done

table() {
  printf '| Kubernetes | at creation |'; printf ' %s |' "${columns[@]%%:*}"; printf ' fields that its API server drops | run |\n'
  printf '|%.0s---' $(seq $((${#columns[@]} + 4))); printf '|\n'
  printf '%s\n' "${rows[@]}"
}
table
if [ -n "${UPDATE:-}" ]; then
  table >"$logs/table.md"
  sed -i -e '/^<!-- table -->$/,/^<!-- end -->$/{/^<!-- table -->$/r '"$logs/table.md" -e '/^<!-- \(table\|end\) -->$/!d}' "$page"
fi
if $failed; then exit 1; fi
