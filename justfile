# `just` lists the recipes. CI runs the same ones.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list

# Format the code
fmt:
    cargo fmt --all

# Formatting, lints, licences and sources of dependencies
check: (_tools "go" "clang" "cargo-deny")
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features podpolicy-e2e/node --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    cargo deny --locked check bans licenses sources

# Unit and property tests: no Go, no clang, no cluster
test-units:
    cargo test --locked

# Tests on a real kube-apiserver, which is built from source the first time
test-api: (_tools "go" "clang") control-plane manifest-tools
    cargo build --locked -p podpolicy
    cargo test --locked -p podpolicy-e2e
    @echo "skipped: the tests on a real node (e2e/tests/node), which need root: just e2e"

# Tests on a real node: kubelet, containerd; root only. --context NAME uses that cluster of kind or k3d, from $KUBECONFIG
e2e *arguments: (_tools "go" "clang")
    e2e/node/test.sh {{ arguments }}

# A cluster of one real node to try things out, until Ctrl-C; root only
cluster: (_tools "go" "clang" "node")
    @cargo run --quiet --locked -p podpolicy-e2e --bin cluster

# All tests but those on a real node
test: test-units test-api

# Tests on the oldest and the newest version of Kubernetes, beside the one that all others use
test-versions: (_tools "go" "clang") manifest-tools
    e2e/matrix.sh --quick 1.30 1.37

# Tests on the versions of Kubernetes that are named, or on all; UPDATE=1 writes the table in docs/kubernetes-versions.md
matrix *versions: (_tools "go" "clang") manifest-tools
    e2e/matrix.sh {{ versions }}

# Rewrite crds/, docs/reference.md and expected results of tests from the code
generate:
    UPDATE=1 cargo test --locked

# Rewrite the table of fields that not every version of Kubernetes has, from the source of each version
field-versions: (_tools "go")
    cd e2e/field-versions && go run . ../../crates/podpolicy-manifests/src/check/versions/fields.rs
    rustfmt --edition 2024 crates/podpolicy-manifests/src/check/versions/fields.rs

# Render config/default into one file, dist/install.yaml
manifests: manifest-tools
    @mkdir -p dist
    @"$(e2e/manifest-tools/build.sh)/kustomize" build config/default --output dist/install.yaml

# Show on a real control plane what PodPolicy does; --keep leaves it up to play with, KUBERNETES=1.30 takes another version
demo *arguments: (_tools "go" "clang") control-plane
    @cargo build --locked -p podpolicy -p podpolicy-e2e --bins
    @e2e/demo.sh {{ arguments }}

# Print how fast decisions and writes are, beside their floors, and how many requests rollouts take, beside the fewest
bench: (_tools "go" "clang") control-plane
    cargo build --release --locked -p podpolicy
    cargo bench --locked -p podpolicy-engine
    BENCH_YQ="$(e2e/yq/build.sh)" cargo bench --locked -p podpolicy --bench files
    PODPOLICY_BIN="$PWD/target/release/podpolicy" cargo bench --locked -p podpolicy-e2e --bench pods
    PODPOLICY_BIN="$PWD/target/release/podpolicy" cargo bench --locked -p podpolicy-e2e --bench creation
    PODPOLICY_BIN="$PWD/target/release/podpolicy" cargo bench --locked -p podpolicy-e2e --bench rollout
    cargo bench --locked -p podpolicy-e2e --bench webhook

# Fuzz the compiler with hostile texts, and the editing of manifests, for some seconds each
fuzz seconds="1200": (_tools "clang" "cargo-fuzz")
    # libFuzzer needs flags of the compiler that are not stable.
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . hostile_texts -- -max_total_time={{ seconds }} -max_len=512
    @mkdir -p fuzz/corpus/manifests
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . manifests corpus/manifests ../crates/podpolicy-manifests/tests/corpus -- -max_total_time={{ seconds }} -max_len=2048 -dict=yaml.dict

# Build kustomize and helm, once
manifest-tools: (_tools "go")
    @e2e/manifest-tools/build.sh >/dev/null

# Build etcd, kube-apiserver, kube-controller-manager and kubectl, once
control-plane: (_tools "go")
    @e2e/control-plane/build.sh >/dev/null

[private]
_tools *names:
    @e2e/setup.sh {{ names }}
