//! `podpolicy function`, as kustomize and kpt run it: a ResourceList in, the same with policies applied and results out.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod folder;

use folder::{Folder, POLICY, Ran};

const ITEMS: &str = "items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: a # its name
    annotations: {internal.config.kubernetes.io/path: deploy/a.yaml, internal.config.kubernetes.io/index: '2'}
  spec:
    containers: [{name: web}]
";

const SERVICE: &str = "- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {selector: {team: web}}
";

/// A list with a configuration, which is written in flow style.
fn list(config: &str, items: &str) -> String {
    format!("apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nfunctionConfig: {config}\n{items}")
}

fn policy(kind: &str, metadata: &str, spec: &str) -> String {
    format!("{{apiVersion: podpolicy.dev/v1alpha1, kind: {kind}, metadata: {{{metadata}}}, spec: {{{spec}}}}}")
}

fn function(arguments: &str, stdin: &str) -> Ran {
    Folder::with(&[("policy.yaml", POLICY)]).run(&format!("function{arguments}"), stdin)
}

fn with_grace(list: &str) -> String {
    list.replace("[{name: web}]\n", "[{name: web}]\n    terminationGracePeriodSeconds: 60\n")
}

#[test]
fn policies_are_the_configuration_items_and_what_is_named() {
    let grace = policy("ClusterPodPolicy", "name: grace", "selector: {}, terminationGracePeriodSeconds: 60");
    let configured = list(&grace, ITEMS);
    function("", &configured).has(0, &with_grace(&configured));
    let several = list(&format!("{{kind: List, items: [{grace}]}}"), ITEMS);
    function("", &several).has(0, &with_grace(&several));
    let as_item = list("null", &format!("{ITEMS}- {grace}\n"));
    function("", &as_item).has(0, &with_grace(&as_item));
    let both = list(&grace, &format!("{ITEMS}- {grace}\n"));
    function("", &both).has(0, &with_grace(&both));
    let plain = list("null", ITEMS);
    let labelled = with_grace(&plain).replace("'2'}\n", "'2'}\n    labels:\n      team: shop\n");
    function(" -p policy.yaml", &plain).has(0, &labelled);
}

#[test]
fn config_map_says_what_flags_say() {
    let standard = policy("PodPolicy", "name: a, namespace: shop", "selector: {}, terminationGracePeriodSeconds: 60");
    let config = |data: &str| list(&format!("{{apiVersion: v1, kind: ConfigMap, data: {{{data}}}}}"), &format!("{ITEMS}- {standard}\n"));
    function("", &config("namespace: shop")).has(0, &with_grace(&config("namespace: shop")));
    function("", &config("namespace: bank")).has(0, &config("namespace: bank"));
    let version = config("namespace: shop, kubernetes-version: v1.33.4");
    function("", &version).has(0, &with_grace(&version));
    for (data, words) in [
        ("namspace: shop", "functionConfig.data.namspace: unknown; known are namespace"),
        ("namespace: 5", "a string is wanted"),
        ("kubernetes-version: '1.29'", "known are 1.30 to 1.37"),
    ] {
        let ran = function("", &config(data));
        assert_eq!(ran.code, Some(2));
        ran.tells(words);
    }
}

#[test]
fn refusals_are_results_with_item_field_and_file() {
    let list = list(&policy("ClusterPodPolicy", "name: team", "selector: {}, labels: {team: shop}"), &format!("{ITEMS}{SERVICE}"));
    let results = "results:
- field:
    path: \"labels[team]\"
  file:
    index: 2
    path: deploy/a.yaml
  message: \"Pod default/a: labels[team]: ClusterPodPolicy team is refused: Service default/web selects on team; set allowSelectorImpact to set it anyway\"
  resourceRef:
    apiVersion: v1
    kind: Pod
    name: a
  severity: warning
";
    let ran = function("", &list);
    ran.has(0, &format!("{list}{results}")).tells("warning: Pod default/a: labels[team]");
    let again = function("", &ran.stdout);
    again.has(0, &format!("{list}{results}{}", results.strip_prefix("results:\n").unwrap()));
}

#[test]
fn mistake_is_a_result_and_leaves_the_items_alone() {
    let mistaken = list(&policy("ClusterPodPolicy", "name: team", "selector: {}, lables: {team: shop}"), ITEMS);
    let ran = function("", &mistaken);
    assert_eq!(ran.code, Some(2));
    let results = ran.stdout.strip_prefix(mistaken.as_str()).unwrap();
    assert!(results.starts_with("results:\n- message: ") && results.contains("severity: error"), "{results}");
    ran.tells("stdin:3:123: ClusterPodPolicy team: spec.lables: unknown field; did you mean labels?");
    let unsound = list(&policy("ClusterPodPolicy", "name: team", "selector: {}"), &ITEMS.replace("'2'", "2"));
    let ran = function("", &unsound);
    assert_eq!(ran.code, Some(2));
    ran.tells("a string is wanted, not 2; put it in quotes");
}

#[test]
fn what_is_no_resource_list_is_an_error() {
    for stdin in ["", "kind: Pod\n", "apiVersion: v1\nkind: ResourceList\n", "a: 1\n---\nb: 2\n", "[\n"] {
        function(" -p policy.yaml", stdin).has(2, "").tells("stdin");
    }
    let other = list("{kind: Other}", ITEMS);
    let ran = function("", &other);
    assert_eq!(ran.code, Some(2));
    ran.tells("functionConfig: a PodPolicy, a ClusterPodPolicy, a List of them or a ConfigMap is wanted, not Other");
}

#[test]
fn second_name_is_the_command() {
    let folder = Folder::with(&[("input.yaml", "a: b\n")]);
    let link = folder.0.path().join("podpolicy-function");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_podpolicy"), &link).unwrap();
    let output = std::process::Command::new(link).stdin(std::fs::File::open(folder.0.path().join("input.yaml")).unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("stdin is no ResourceList"), "{output:?}");
}
