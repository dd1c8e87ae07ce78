#!/usr/bin/env bash
# Shows, step by step, what PodPolicy does to pods that already run, and to new ones: a real kube-apiserver and kube-controller-manager, the
# real operator, and kubectl as a person would type it. There is no node, so pods stay Pending; labels do not care.
#
#   demo.sh          runs through all steps and cleans up; KUBERNETES=1.30 does so on another version
#   demo.sh --keep   leaves everything up at the end and says how to play with it, until Enter or Ctrl-C
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

keep=false
for argument in "$@"; do
  case "$argument" in
    --keep) keep=true ;;
    *) printf 'demo: unknown argument %s: the only one is --keep\n' "$argument" >&2; exit 2 ;;
  esac
done

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m'); else bold='' dim='' plain=''; fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/podpolicy-demo-XXXXXX")
plane='' operator=''
cleanup() {
  # Ended by the ids that were kept, operator first.
  for id in $operator $plane; do kill "$id" 2>/dev/null || true; done
  for id in $operator $plane; do wait "$id" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
  printf '\ndemo: %s\n' "$1" >&2
  tail -n 20 "$folder"/*.log >&2 2>/dev/null || true
  exit 1
}

# say TEXT: a line of explanation
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
# show COMMAND: prints it and runs it, as a person would
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; "$@"; }
# until_is WANTED COMMAND...: waits until the command prints what is wanted
until_is() {
  local wanted=$1 deadline=$((SECONDS + 60)) seen=''
  shift
  until seen=$("$@" 2>&1) && [ "$seen" = "$wanted" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "waited 60 s for \"$wanted\" from: $*; it printed: $seen"
    sleep 0.1 # between two looks
  done
}

# A port that nobody listens on: the webhook's, where the API server needs one.
free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { printf '%s\n' "$port"; return; }
  done
  fail "found no free port on 127.0.0.1"
}

assets=$("$root/e2e/control-plane/build.sh")
export KUBECONFIG="$folder/kubeconfig"
export PATH="$assets:$PATH"

say "Starting etcd, kube-apiserver and kube-controller-manager $(kubectl version --client -o json | sed -n 's/.*"gitVersion": "\(.*\)".*/\1/p')"
cargo run --quiet --locked -p podpolicy-e2e --bin control-plane -- --kubeconfig "$KUBECONFIG" >"$folder/control-plane.log" 2>&1 &
plane=$!
deadline=$((SECONDS + 180))
until [ -s "$KUBECONFIG" ] && grep -q . "$folder/control-plane.log"; do
  kill -0 "$plane" 2>/dev/null || fail "the control plane did not start"
  [ "$SECONDS" -lt "$deadline" ] || fail "the control plane took more than 180 s"
  sleep 0.2 # between two looks
done

say "1. A shop that runs already: two Deployments, a StatefulSet, a bare pod. None has a team label."
show kubectl create namespace shop
kubectl config set-context --current --namespace shop >/dev/null
show kubectl apply -f e2e/demo/shop.yaml
until_is 6 sh -c 'kubectl get pods --no-headers | wc -l'
show kubectl get pods -L app,team

say "2. The operator starts."
webhook=127.0.0.1:$(free_port)
# The webhook's certificates are kept there, on API servers that need a webhook.
kubectl create namespace podpolicy-system >/dev/null
target/debug/podpolicy run --metrics-address 127.0.0.1:0 --webhook-address "$webhook" --webhook-url "https://$webhook/mutate" \
  --log warn >"$folder/operator.log" 2>&1 &
operator=$!
show kubectl apply -f e2e/demo/team.yaml
show kubectl wait --for=condition=Ready podpolicy/team --timeout 60s
say "   The policy put team=shop and an on-call annotation on every pod that lacked them, in place. No pod was replaced, no template touched:"
show kubectl get pods -L app,team
show kubectl get podpolicies
show kubectl get replicasets

say "3. What the policy wrote is recorded on the pod, with the value it replaced, so that it can be taken back:"
show kubectl get pod toolbox -o 'jsonpath={.metadata.annotations.podpolicy\.dev/applied}{"\n"}'

say "4. Drift: somebody removes the label. It is back at once."
show kubectl label pod toolbox team-
until_is shop kubectl get pod toolbox -o 'jsonpath={.metadata.labels.team}'
show kubectl get pod toolbox -L team

say "5. A person's own value is respected (precedence: Workload, the default), and the policy says so:"
show kubectl label pod toolbox team=tools --overwrite
until_is Kept kubectl get podpolicy team -o 'jsonpath={.status.findings[0].reason}'
show kubectl get pod toolbox -L team
show kubectl get podpolicy team -o 'jsonpath={range .status.findings[*]}{.reason}{"  "}{.field}{"  "}{.example}{"  "}{.message}{"\n"}{end}'

say "6. A conflict: a second policy with a higher priority wants another on-call. One wins, both say so, nothing flaps."
show kubectl apply -f e2e/demo/night.yaml
show kubectl wait --for=condition=Ready podpolicy/night --timeout 60s
show kubectl wait --for=condition=Conflicted podpolicy/team --timeout 60s
show kubectl get podpolicies
show kubectl get podpolicy team -o 'jsonpath={.status.conditions[?(@.type=="Conflicted")].message}{"\n"}'

say "7. A label that a Service selects on could move pods into or out of it: it is refused, and the Service is named."
show kubectl apply -f e2e/demo/tier.yaml
show kubectl wait --for=condition=Stalled podpolicy/tier --timeout 60s
show kubectl get podpolicy tier
show kubectl get podpolicy tier -o 'jsonpath={.status.findings[0].message}{"\n"}'

say "8. A policy that cannot be right is refused by the API server itself:"
show kubectl apply -f e2e/demo/bad.yaml || true

say "9. Probes, hooks and the grace period cannot change on a pod that runs: those pods are outdated. New ones are right from birth."
show kubectl apply -f e2e/demo/graceful.yaml
show kubectl wait --for=condition=Ready podpolicy/graceful --timeout 60s
show kubectl get podpolicy graceful
show kubectl delete pods -l app=web --now
until_is '2 2' kubectl get podpolicy graceful -o 'jsonpath={.status.pods.matched} {.status.pods.compliant}'
show kubectl get podpolicy graceful
show kubectl get pods -l app=web -o 'custom-columns=NAME:.metadata.name,GRACE:.spec.terminationGracePeriodSeconds,READINESS:.spec.containers[0].readinessProbe.httpGet.path,PRESTOP:.spec.containers[0].lifecycle.preStop.sleep.seconds'
if kubectl get mutatingadmissionpolicies >/dev/null 2>&1; then
  say "   The API server itself does it, by objects that the operator compiled; no webhook is involved:"
  show kubectl get mutatingadmissionpolicies
else
  say "   This API server has no MutatingAdmissionPolicies, so it asks the operator, by a webhook with certificates that the operator keeps:"
  show kubectl get mutatingwebhookconfigurations
fi

say "10. Policies are deleted: what they wrote goes, what a person wrote stays."
show kubectl delete podpolicies --all
until_is '' kubectl get pods -l team=shop -o name
show kubectl get pods -L app,team

if $keep; then
  say "Everything is still up. In another terminal:"
  printf '  export KUBECONFIG=%s PATH=%s:$PATH\n  kubectl explain podpolicy.spec\n  kubectl apply -k config/samples\n' "$KUBECONFIG" "$assets"
  printf 'The log of the operator is %s. Enter or Ctrl-C ends it all.\n' "$folder/operator.log"
  read -r || wait "$plane"
else
  say "Done; everything is cleaned up. \`just demo --keep\` leaves it up to play with."
fi
