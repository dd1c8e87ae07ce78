#!/usr/bin/env bash
# Runs the tests on several versions of Kubernetes: matrix.sh [--quick] [VERSION...]; without a version, on all in control-plane/kubernetes.
#
# Prints a table in Markdown with a row for each version; UPDATE=1 writes it into docs/kubernetes-versions.md. A cell says how many tests
# passed, and how many do not apply because the API server lacks what they test. --quick leaves out most tests of rollouts, and takes fewer
# generated pods. Logs are in target/matrix. It ends with 1 where a test failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
page=docs/kubernetes-versions.md

# What a column shows, and the tests that show it: a test program, or those of its tests that have a word in their names.
columns=(
  "installation:manifests/cluster manifests/chart"
  "bad specs:bad_specs"
  "creation:differential birth support"
  "webhook:webhook"
  "guard:guard"
  "live pods, undo:live_pods workloads selector_impact"
  "rollout:rollout"
  "cleanup:cleanup"
)
if [ "${1:-}" = --quick ]; then
  shift
  export PODPOLICY_PAIRS=${PODPOLICY_PAIRS:-300}
  columns=("${columns[@]/rollout:rollout/rollout:rollout/evict rollout/restart}")
  columns=("${columns[@]/live_pods workloads selector_impact/live_pods}")
  columns=("${columns[@]/differential birth support/differential birth/workloads support}")
fi
versions=("$@")
[ "$#" -gt 0 ] || mapfile -t versions < <(cd "$here/control-plane/kubernetes" && printf '%s\n' */ | tr -d /)

say() { printf '%s\n' "$*" >&2; }

logs="${CARGO_TARGET_DIR:-target}/matrix"
mkdir -p "$logs"
failed=false

# cell VERSION TEST...: what a cell shows
cell() {
  local version=$1 passed=0 skipped=0 wrong=0 log test arguments
  shift
  for test in "$@"; do
    log="$logs/$version-${test//\//-}.log"
    arguments=(--test "${test%%/*}")
    if [[ $test == */* ]]; then arguments+=("${test#*/}"); fi
    if ! KUBERNETES=$version cargo test --locked --quiet -p podpolicy-e2e "${arguments[@]}" >"$log" 2>&1; then
      wrong=$((wrong + 1))
      say "$version: $test failed; the end of $log:"
      tail -n 40 "$log" >&2
    fi
    passed=$((passed + $(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")))
    skipped=$((skipped + $(grep -c 'does not apply to Kubernetes' "$log" || true)))
  done
  if [ "$wrong" -gt 0 ]; then printf 'FAILED'; return; fi
  printf '%s' "$((passed - skipped))"
  if [ "$skipped" -gt 0 ]; then printf ' (%s do not apply)' "$skipped"; fi
}

cargo build --locked --quiet -p podpolicy
rows=()
for version in "${versions[@]}"; do
  folder=$(KUBERNETES=$version "$here/control-plane/build.sh")
  patch=$(basename "$folder" | sed 's/-.*//')
  offers=$(KUBERNETES=$version cargo run --quiet --locked -p podpolicy-e2e --bin offers)
  row="| ${patch#v} | ${offers%%$'\t'*} |"
  for column in "${columns[@]}"; do
    read -ra tests <<<"${column#*:}"
    say "$(date +%T) Kubernetes $patch: ${column%%:*}"
    value=$(cell "$version" "${tests[@]}")
    if [[ $value == FAILED ]]; then failed=true; fi
    row+=" $value |"
  done
  row+=" ${offers#*$'\t'} | $(date +%F) |"
  rows+=("$row")
done

table() {
  printf '| Kubernetes | at creation |'
  printf ' %s |' "${columns[@]%%:*}"
  printf ' dropped by default | run |\n|'
  printf -- '---|%.0s' $(seq $((${#columns[@]} + 4)))
  printf '\n'
  printf '%s\n' "${rows[@]}"
}
table
if [ -n "${UPDATE:-}" ]; then
  table >"$logs/table.md"
  sed -i -e "/^<!-- table -->\$/r $logs/table.md" -e '/^<!-- table -->$/,/^<!-- end -->$/{/^|/d}' "$page"
fi
if $failed; then exit 1; fi
