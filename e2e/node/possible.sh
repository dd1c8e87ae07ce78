#!/usr/bin/env bash
# Says in one line why no node can run here, and fails; says nothing where one can.
set -euo pipefail

cannot() { printf '%s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || cannot "no node can run here: it needs root"
"$(dirname "${BASH_SOURCE[0]}")/../setup.sh" node musl || cannot "no node can run here: what it is made of cannot be installed"
# As init.sh does it.
try='mount -t tmpfs try /mnt && mount -t proc proc /proc && ip link add node0 type bridge && nft add table ip try'
unshare --fork --kill-child --pid --mount --net sh -c "$try" >/dev/null 2>&1 ||
  cannot "no node can run here: namespaces with mounts, a bridge and nftables cannot be made"
group=
while read -r _ mount kind _; do
  case $kind in cgroup | cgroup2) group=$mount/podpolicy-try-$$ ;; *) continue ;; esac
  mkdir "$group" 2>/dev/null || cannot "no node can run here: $mount takes no cgroups"
  rmdir "$group"
done </proc/self/mounts
[ -n "$group" ] || cannot "no node can run here: there are no cgroups"
