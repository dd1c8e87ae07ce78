#!/usr/bin/env bash
# The first process in the namespaces of a node (see run.sh): starts everything and ends, and all with it, when standard input
# ends or one of the programs does.
#
# Addresses are those set aside for documentation, which lead nowhere: the node is 192.0.2.1, pods are in 198.51.100.0/24 and
# services in 203.0.113.0/24. The network namespace has no way out.
set -euo pipefail

state=$1 kubernetes=$2 runtime=$3
config="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/config"
name=$(basename "$state")
node=192.0.2.1

say() { printf '%s\n' "$*" >&2; }

# Our id for those outside: /proc is still theirs. As long as we run, nobody may clean up after us.
read -ra stat </proc/self/stat
outside=${stat[0]}
printf '%s %s\n' "$outside" "${stat[21]}" >"$state/owner"

# Fixed places for all that follows, on new empty /run, /var and /proc.
mkdir "$state/"{run,logs,pods}
mount -t tmpfs -o mode=755 run "$state/run"
mkdir "$state/run/"{node,kubernetes,runtime,config,lock}
mount --bind "$state" "$state/run/node"
mount --bind "$kubernetes" "$state/run/kubernetes"
mount --bind "$runtime" "$state/run/runtime"
mount --bind "$config" "$state/run/config"
mount --no-mtab --move "$state/run" /run
mount -t tmpfs -o mode=755 var /var
mount -t proc proc /proc
# kubelet shares mounts with containers that ask for it.
mount --make-rshared /
cd /run/node
mkdir -p /var/{lib,log,tmp}
ln -s /run /var/run
export PATH="/run/kubernetes:/run/runtime:$PATH"
export HOME=/var/lib TMPDIR=/var/tmp CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=true

ip link set lo up
ip link add node0 type bridge
ip address add "$node/24" dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

# A cgroup for all pods, in each hierarchy that the machine has.
while read -r _ mount kind _; do
  case $kind in cgroup | cgroup2) ;; *) continue ;; esac
  mkdir "$mount/$name"
  # A new group of version 1 may use no processor and no memory until it is told which.
  for file in cpuset.cpus cpuset.mems; do
    if [ "$kind" = cgroup ] && [ -e "$mount/$file" ]; then cat "$mount/$file" >"$mount/$name/$file"; fi
  done
done </proc/self/mounts

declare -A running=() ids=()
cat <&0 >/dev/null &
input=$!

start() { # program argument...
  "$@" </dev/null >"logs/$1.log" 2>&1 &
  running[$!]=$1
  ids[$1]=$!
}

fail() {
  say "$1; the end of its log:"
  tail -n 20 "logs/$2.log" >&2
  exit 1
}

# Waits for a program to answer, as long as it runs and anybody waits for us.
await() { # program command...
  local id=${ids[$1]} program=$1 deadline=$((SECONDS + 300))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$program does not get ready" "$program"
    kill -0 "$input" 2>/dev/null || exit 0
    kill -0 "$id" 2>/dev/null || fail "$program has ended" "$program"
    sleep 0.1
  done
}

token() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# A kubeconfig for a user that kube-apiserver knows by a token.
kubeconfig() { # file user [groups]
  local token
  token=$(token)
  printf '%s,%s,%s,"%s"\n' "$token" "$2" "$2" "${3:-}" >>tokens.csv
  cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{ name: node, cluster: { server: "https://$node:6443", tls-server-name: kubernetes.default.svc, certificate-authority: /run/node/apiserver/apiserver.crt } }]
users: [{ name: user, user: { token: "$token" } }]
contexts: [{ name: node, context: { cluster: node, user: user } }]
current-context: node
END
}

kubeconfig admin admin system:masters
kubeconfig kubelet system:node:node system:nodes
kubeconfig kube-controller-manager system:kube-controller-manager
kubeconfig kube-scheduler system:kube-scheduler
kubeconfig kube-proxy system:kube-proxy
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out service-accounts.key

start containerd --config /run/config/containerd.toml
await containerd ctr version
for image in pause busybox; do ctr --namespace k8s.io images import "/run/runtime/$image.tar" >/dev/null; done

start etcd --data-dir=/var/lib/etcd --unsafe-no-fsync
start kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$node" --cert-dir=/run/node/apiserver \
  --token-auth-file=tokens.csv --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=service-accounts.key \
  --service-account-signing-key-file=service-accounts.key --service-cluster-ip-range=203.0.113.0/24 \
  --kubelet-preferred-address-types=InternalIP --audit-policy-file=/run/config/audit.yaml --audit-log-path=logs/audit.log
await kube-apiserver kubectl --kubeconfig=admin.kubeconfig get --raw=/readyz

start kube-controller-manager --kubeconfig=kube-controller-manager.kubeconfig --use-service-account-credentials --leader-elect=false \
  --service-account-private-key-file=service-accounts.key --root-ca-file=apiserver/apiserver.crt
start kube-scheduler --kubeconfig=kube-scheduler.kubeconfig --leader-elect=false
{ cat /run/config/kubelet.yaml; echo "cgroupRoot: /$name"; } >kubelet.yaml
start kubelet --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig --hostname-override=node --node-ip="$node"
await kube-controller-manager kubectl --kubeconfig=admin.kubeconfig get serviceaccount default
await kubelet kubectl --kubeconfig=admin.kubeconfig wait --for=condition=Ready node/node
start kube-proxy --kubeconfig=kube-proxy.kubeconfig --hostname-override=node --proxy-mode=nftables --cluster-cidr=198.51.100.0/24 \
  --conntrack-max-per-core=0

printf '%s %s\n' "$outside" "$state"
wait -n -p ended "$input" "${!running[@]}" || true
if [ "$ended" != "$input" ]; then fail "${running[$ended]} has ended" "${running[$ended]}"; fi
