//! The engine never does I/O, nor does what edits manifests with it: they must not even be able to, so nothing that could is among their
//! dependencies.

use std::process::Command;

/// Crates that do I/O, run tasks or talk to an API server.
const EFFECTS: [&str; 10] =
    ["async-std", "axum", "hyper", "hyper-util", "kube-client", "kube-runtime", "reqwest", "rustls", "smol", "tokio"];

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    for name in ["podpolicy-engine", "podpolicy-manifests"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).unwrap();
        let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(&"kube-core"), "the tree was read: {names:?}");
        let effects: Vec<_> = EFFECTS.iter().filter(|effect| names.contains(effect)).collect();
        assert!(effects.is_empty(), "{name} depends on {effects:?}");
    }
}
