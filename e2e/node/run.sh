#!/usr/bin/env bash
# Runs a Kubernetes cluster of one real node until standard input ends. Prints the process id of the node's init and the folder of
# its logs and kubeconfig once it is up. Root only, Linux only.
#
# All of it lives in namespaces of its own: processes, mounts and network end with the first process in there (init.sh), in
# whatever way that comes. What then is left, the cgroups and a folder, is removed here, or else by the next run.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

if [ "$(id -u)" -ne 0 ]; then
  say "a node needs root: run this as root, or name a cluster that you have with KUBECONFIG and --context"
  exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kubernetes=$("$here/../control-plane/build.sh" etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
runtime=$("$here/build.sh")

# Of a process: when it started, which tells it from a later one with its id.
started() { # id
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  printf '%s' "${20}"
}

remove() { # state folder
  local mount kind group left
  # A group can be removed only a moment after its last process has ended.
  for _ in $(seq 100); do
    left=0
    while read -r _ mount kind _; do
      group="$mount/$(basename "$1")"
      case $kind in cgroup | cgroup2) ;; *) continue ;; esac
      if [ ! -d "$group" ]; then continue; fi
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done </proc/self/mounts
    if [ "$left" = 0 ]; then break; fi
    sleep 0.05
  done
  rm -rf --one-file-system -- "$1"
}

# The owner of a folder is the process that needs it. What others than root made is not touched.
for old in "${TMPDIR:-/tmp}"/podpolicy-node-*/; do
  old=${old%/}
  if [ ! -O "$old" ] || [ -L "$old" ] || [ ! -f "$old/owner" ]; then continue; fi
  read -r id start <"$old/owner"
  if [ "$(started "$id")" = "$start" ]; then continue; fi
  say "removing what a run that crashed has left: $old"
  remove "$old"
done

state=$(mktemp -d "${TMPDIR:-/tmp}/podpolicy-node-XXXXXX")
printf '%s %s\n' "$$" "$(started $$)" >"$state/owner"
trap 'remove "$state"' EXIT
# Whoever started this closes standard input; what reaches a whole terminal is not for us.
trap '' HUP INT QUIT TERM

unshare --fork --kill-child --pid --mount --net "$here/init.sh" "$state" "$kubernetes" "$runtime"
