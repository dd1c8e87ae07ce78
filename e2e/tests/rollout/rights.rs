//! An operator with the rights of the manifests and no others: it says which are missing, and goes on once it has them.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::DeleteParams;
use podpolicy_controller::AdmissionMode;
use podpolicy_e2e::backend::has_native;
use podpolicy_e2e::kubelet::Fate;
use podpolicy_e2e::{objects, shared};
use serde_json::{Value, json};

use crate::scene::{Scene, grace, has_probe, liveness};

/// A user with the rights of some files.
struct User<'a> {
    scene: &'a Scene,
    name: String,
    granted: Vec<String>,
}

impl<'a> User<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self { scene, name: format!("operator-{}", scene.name()), granted: Vec::new() }
    }

    /// Grants what the first role of a file in `config/` grants. Where the API server needs a webhook, its rights are granted as well: those in
    /// `config/` are for other names than this test's.
    async fn grant(&mut self, file: &str) -> anyhow::Result<()> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(file))?;
        let mut role: Value = serde_saphyr::from_multiple(&text)?.into_iter().next().unwrap_or_default();
        if !has_native(shared().await).await? {
            let rules = role["rules"].as_array_mut().context("a role has rules")?;
            rules.extend([("", "secrets"), ("admissionregistration.k8s.io", "mutatingwebhookconfigurations")].map(|(group, resource)| {
                json!({ "apiGroups": [group], "resources": [resource], "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] })
            }));
        }
        let name = format!("{}-{}", self.name, self.granted.len());
        let metadata = json!({ "name": name });
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
        let subjects = json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name }]);
        for object in [
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": role["rules"] }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": reference,
                "subjects": subjects,
            }),
        ] {
            objects::apply(&self.scene.client, self.scene.name(), &object.to_string()).await?;
        }
        self.granted.push(name);
        Ok(())
    }

    async fn operator(&self) -> anyhow::Result<podpolicy_e2e::InProcess> {
        let mut config = shared().await.config();
        config.auth_info.impersonate = Some(self.name.clone());
        self.scene.operator_of(config, self.scene.config(AdmissionMode::Auto)?).await
    }

    async fn end(self) -> anyhow::Result<()> {
        let roles: Api<ClusterRole> = Api::all(self.scene.client.clone());
        for name in self.granted {
            roles.delete(&name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn eviction_needs_its_component_and_says_so() -> anyhow::Result<()> {
    let scene = Scene::with("rights-evict", &[("web", 2)]).await?;
    let mut user = User::new(&scene);
    user.grant("rbac/role.yaml").await?;
    let _operator = user.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Evict")).await?;
    scene.stands("standard", "False Forbidden", &["may not evict pods", "config/components/evict", "rollout.evict=true"]).await?;
    user.grant("components/evict/role.yaml").await?;
    scene.complete("standard").await?;
    // And the kubelet's words.
    scene.kubelet.script(|pod| if has_probe(pod) { Fate::Killed("Liveness probe failed: 404".to_owned()) } else { Fate::Ready });
    scene.policy("standard", &liveness("/wrong", "strategy: Evict")).await?;
    scene.stands("standard", "False RolloutFailed", &["the kubelet says: Liveness probe failed: 404"]).await?;
    user.end().await
}

#[tokio::test]
async fn restart_needs_its_component_and_says_so() -> anyhow::Result<()> {
    let scene = Scene::with("rights-restart", &[("web", 2)]).await?;
    let mut user = User::new(&scene);
    user.grant("rbac/role.yaml").await?;
    let _operator = user.operator().await?;
    scene.policy("standard", &grace(60, "strategy: Restart")).await?;
    scene
        .stands("standard", "False Forbidden", &["may not restart workloads", "config/components/restart", "rollout.restart=true"])
        .await?;
    user.grant("components/restart/role.yaml").await?;
    scene.complete("standard").await?;
    user.end().await
}
