//! What an earlier version of the operator left in a cluster is taken over by this one: its records, policies, statuses and admission objects.
//!
//! Each folder of `upgrade/` is what one version left of `scene.yaml`; `upgrade/record.sh` makes them.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use podpolicy_api::{APPLIED_ANNOTATION, ClusterPodPolicy, PodPolicy};
use podpolicy_e2e::policies::{in_force, settled, verdict};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, Operator, Options, objects};
use serde_json::Value;

/// The namespace of the scene.
const NAMESPACE: &str = "upgrade";

#[tokio::test]
async fn what_earlier_versions_left_is_taken_over() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let mut versions: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    versions.retain(|path| path.is_dir());
    assert!(!versions.is_empty());
    for version in versions {
        taken_over(&version).await.map_err(|error| error.context(version.display().to_string()))?;
    }
    Ok(())
}

/// Puts what a version left into a cluster of its own, and upgrades.
async fn taken_over(version: &Path) -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: false, controller_manager: false }).await?;
    let client = plane.client();
    plane.install_crds(&version.join("crds")).await?;
    let scene = fs::read_to_string(version.join("../scene.yaml"))?;
    objects::apply(&client, NAMESPACE, scene.split("\n---\n").next().unwrap()).await?;
    for object in left(version)? {
        put(&plane, &object)?;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let before = pods.list(&ListParams::default()).await?.items;
    assert_eq!(before.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["live", "new"]);
    assert!(before.iter().all(|pod| pod.annotations().contains_key(APPLIED_ANNOTATION)));

    eventually("what the earlier version left is in force", DEADLINE, || async {
        let pod = newborn(&pods).await?;
        Ok(Seen::when(is_as_policies_say(&pod), pod))
    })
    .await?;

    // The definitions go first, then the operator.
    plane.install_crds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")).await?;
    let policies: Api<PodPolicy> = Api::namespaced(client.clone(), NAMESPACE);
    let cluster: Api<ClusterPodPolicy> = Api::all(client.clone());
    let standard = policies.get("standard").await?;
    assert_eq!(
        verdict(standard.status.as_ref().unwrap(), "Ready").split(' ').next(),
        Some("True"),
        "what the earlier version said is still there"
    );
    let run = ["run", "--admission", "native", "--metrics-address", "", "--own-namespace", "default"];
    let operator = Operator::spawn(plane.kubeconfig_path(), &run, &[])?;

    // All along, pods are created with what policies say. A policy that selects nothing shows that the new version has been through all there is.
    objects::apply(&client, NAMESPACE, AFTER).await?;
    let mut created = 0;
    eventually("the operator has taken over", DEADLINE, || {
        created += 1;
        let (pods, policies) = (pods.clone(), policies.clone());
        async move {
            let pod = newborn(&pods).await?;
            anyhow::ensure!(is_as_policies_say(&pod), "{pod:#?}");
            let after = policies.get("after").await?.status;
            Ok(Seen::when(after.as_ref().is_some_and(|status| verdict(status, "Ready") == "True InForce"), after))
        }
    })
    .await?;
    assert!(created > 1, "pods were created before it had taken over");
    in_force(&cluster, "baseline", 2).await?;
    settled(&policies, "standard", 2).await?;

    // Nothing was left to write to a pod.
    let after = pods.list(&ListParams::default()).await?.items;
    let versions = |pods: &[Pod]| pods.iter().map(|pod| (pod.name_any(), pod.resource_version())).collect::<Vec<_>>();
    assert_eq!(versions(&after), versions(&before), "{}", operator.output());

    // And what the earlier version recorded is enough to undo what it did, and to tell what stays until the pod is replaced.
    policies.delete("standard", &DeleteParams::default()).await?;
    cluster.delete("baseline", &DeleteParams::default()).await?;
    let labels = pairs(&[("app", "web"), ("tier", "back")]);
    let created = r#"{"created":{"containers[web].lifecycle.preStop":{"by":"PodPolicy/standard"},"containers[web].readinessProbe":{"by":"PodPolicy/standard"},"terminationGracePeriodSeconds":{"by":"PodPolicy/standard"}}}"#;
    for (name, annotations) in [("live", pairs(&[("note", "own")])), ("new", pairs(&[(APPLIED_ANNOTATION, created)]))] {
        eventually(&format!("{name} is as it was"), DEADLINE, || async {
            let pod = pods.get(name).await?;
            let is_undone = pod.labels() == &labels && pod.annotations() == &annotations;
            Ok(Seen::when(is_undone, (pod.labels(), pod.annotations())))
        })
        .await?;
    }
    Ok(())
}

/// Selects no pod.
const AFTER: &str = "
    apiVersion: podpolicy.dev/v1alpha1
    kind: PodPolicy
    metadata: { name: after }
    spec: { selector: { matchLabels: { app: none } }, labels: { later: version } }
";

/// The objects that a version left, without what an API server gives each object anew.
fn left(version: &Path) -> anyhow::Result<Vec<Value>> {
    let lists: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(version.join("left.yaml"))?)?;
    let mut objects: Vec<Value> = lists.iter().flat_map(|list| list["items"].as_array().unwrap().clone()).collect();
    for object in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _value| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
    }
    Ok(objects)
}

/// Creates an object as it was, status included.
fn put(plane: &ControlPlane, object: &Value) -> anyhow::Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(object.to_string().as_bytes())?;
    let path = file.path().to_str().unwrap();
    plane.kubectl_output(&["create", "-f", path])?;
    if object["apiVersion"] == "podpolicy.dev/v1alpha1" {
        plane.kubectl_output(&["replace", "--subresource", "status", "-f", path])?;
    }
    Ok(())
}

/// A pod as it would be created now.
async fn newborn(pods: &Api<Pod>) -> anyhow::Result<Pod> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    Ok(pods.create(&dry_run, &objects::pod("next", &[("app", "web")])).await?)
}

/// Whether a new pod has what both policies give.
fn is_as_policies_say(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let has_hook = spec.containers[0].lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some());
    pod.labels().get("team").is_some_and(|team| team == "shop")
        && pod.labels().get("app.kubernetes.io/part-of").is_some_and(|whole| whole == "shop")
        && spec.termination_grace_period_seconds == Some(60)
        && spec.containers[0].readiness_probe.is_some()
        && has_hook
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
