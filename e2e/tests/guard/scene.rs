//! A control plane with people of different rights, and a guard that can be installed and deleted.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use podpolicy_api::{Finding, FindingReason, PodPolicy, PodPolicyStatus};
use podpolicy_controller::{AdmissionMode, Config, Snapshots};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Options, Tap, TestNamespace, backend, objects, policies};
use serde_json::{Value, json};

pub const GUARD: &str = "podpolicy-guard";

/// The groups of everybody.
const EVERYBODY: [&str; 1] = ["system:authenticated"];

/// Starts a control plane without a guard.
pub async fn plane() -> anyhow::Result<ControlPlane> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    for role in ["podpolicy_editor_role.yaml", "clusterpodpolicy_editor_role.yaml"] {
        apply_config(&plane.client(), &format!("rbac/{role}")).await?;
    }
    let runner = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "runner" },
        "rules": [{ "apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"] }],
    });
    objects::apply(&plane.client(), "default", &runner.to_string()).await?;
    Ok(plane)
}

/// Applies a file of `config/`.
async fn apply_config(client: &Client, file: &str) -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(file);
    let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    objects::apply(client, "default", &text).await?;
    Ok(())
}

/// Installs the guard.
pub async fn install_guard(plane: &ControlPlane) -> anyhow::Result<()> {
    apply_config(&plane.client(), "guard/validating_admission_policy.yaml").await?;
    apply_config(&plane.client(), "guard/validating_admission_policy_binding.yaml").await
}

/// Deletes the guard.
pub async fn delete_guard(plane: &ControlPlane) -> anyhow::Result<()> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(plane.client());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(plane.client());
    bindings.delete(GUARD, &DeleteParams::default()).await?;
    policies.delete(GUARD, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until the guard has been there for as long as it takes to count for new policies, by the API server's clock.
pub async fn guard_is_old_enough(plane: &ControlPlane) -> anyhow::Result<()> {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(plane.client());
    let created = bindings.get(GUARD).await?.metadata.creation_timestamp.context("it was created")?.0;
    let now = |map: ConfigMap| -> Option<Timestamp> { Some(map.metadata.creation_timestamp?.0) };
    let clocks: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
    let asked = ConfigMap { metadata: ObjectMeta { name: Some("clock".to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() };
    eventually("the guard to be old enough", DEADLINE, async || {
        let now = now(clocks.create(&PostParams { dry_run: true, ..PostParams::default() }, &asked).await?).context("it has a time")?;
        Ok(Seen::when(now.duration_since(created) >= SignedDuration::from_secs(10), now))
    })
    .await
}

/// A namespace on a control plane.
pub struct Scene<'a> {
    pub plane: &'a ControlPlane,
    pub namespace: TestNamespace,
    /// An administrator's.
    pub client: Client,
    pub policies: Api<PodPolicy>,
    pub tap: Tap,
}

impl<'a> Scene<'a> {
    pub async fn set(plane: &'a ControlPlane) -> anyhow::Result<Self> {
        let namespace = TestNamespace::create(&plane.config(), "guard").await?;
        let client = plane.client();
        Ok(Self { plane, policies: Api::namespaced(client.clone(), namespace.name()), namespace, client, tap: Tap::default() })
    }

    /// A client of a person with these cluster roles in the namespace.
    pub async fn person(&self, name: &str, roles: &[&str]) -> anyhow::Result<Client> {
        for role in roles {
            self.bind("RoleBinding", name, role).await?;
        }
        Ok(self.plane.client_as(&self.user(name), &EVERYBODY))
    }

    /// Gives a person a cluster role, in the namespace or everywhere.
    pub async fn bind(&self, kind: &str, name: &str, role: &str) -> anyhow::Result<()> {
        let user = self.user(name);
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": { "name": format!("{user}-{role}") },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        });
        objects::apply(&self.client, self.namespace.name(), &binding.to_string()).await?;
        Ok(())
    }

    fn user(&self, name: &str) -> String {
        format!("{name}-of-{}", self.namespace)
    }

    /// The policies of the namespace as a person sees them.
    pub fn policies_of(&self, person: &Client) -> Api<PodPolicy> {
        Api::namespaced(person.clone(), self.namespace.name())
    }

    /// An operator of this namespace that has pods given their settings by the backend that the API server has.
    pub async fn operator(&self) -> anyhow::Result<InProcess> {
        let config = backend::operator_in(self.namespace.name(), AdmissionMode::Auto)?;
        InProcess::start(self.tap.client(self.plane.config())?, config).await
    }

    /// The container of a pod that would be created now with this label.
    pub async fn new_container(&self, app: &str) -> anyhow::Result<Container> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace.name());
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let pod = pods.create(&dry_run, &objects::pod("would-be", &[("app", app)])).await?;
        pod.spec.and_then(|spec| spec.containers.into_iter().next()).context("the pod has a container")
    }

    /// Waits until new pods with this label have this command before they stop, or none.
    pub async fn new_pods_run(&self, app: &str, command: Option<&str>) -> anyhow::Result<()> {
        eventually(&format!("new pods of {app} to run {command:?} before they stop"), DEADLINE, async || {
            let container = self.new_container(app).await?;
            let hook = container.lifecycle.and_then(|lifecycle| lifecycle.pre_stop).and_then(|hook| hook.exec);
            let found = hook.and_then(|exec| exec.command).unwrap_or_default();
            let status = self.policies.get_opt(app).await?.and_then(|policy| policy.status);
            Ok(Seen::when(found.first().map(String::as_str) == command, (found, status)))
        })
        .await
    }

    /// Waits until a policy reports that its commands are refused for this reason.
    pub async fn refused(&self, policy: &str, words: &str) -> anyhow::Result<PodPolicyStatus> {
        let holds = |status: &PodPolicyStatus| exec_findings(status).any(|finding| finding.message.contains(words));
        policies::status(&self.policies, policy, &format!("commands are refused: {words}"), holds).await
    }

    /// What `podpolicy explain` and `podpolicy status` say of commands that are refused, in words: they decide by themselves, and only read.
    pub async fn refused_to_readers(&self) -> anyhow::Result<Vec<String>> {
        let snapshot = Snapshots::new(&self.client, Some(self.namespace.name()), Config::default()).next().await?;
        let verdicts = snapshot.pods.iter().flat_map(|seen| &seen.outcome.verdicts);
        let findings = verdicts.flat_map(|verdict| &verdict.findings).filter(|finding| finding.reason == FindingReason::ExecNotAllowed);
        Ok(findings.map(|finding| finding.message.clone()).collect())
    }

    /// Waits until the policy's status remembers that its present spec was checked.
    pub async fn remembered(&self, policy: &str) -> anyhow::Result<PodPolicyStatus> {
        let holds = |status: &PodPolicyStatus| status.exec_checked.as_ref().map(|checked| checked.generation) == status.observed_generation;
        policies::status(&self.policies, policy, "its commands were checked", holds).await
    }
}

/// What a status says of commands.
pub fn exec_findings(status: &PodPolicyStatus) -> impl Iterator<Item = &Finding> {
    status.findings.iter().filter(|finding| finding.reason == FindingReason::ExecNotAllowed)
}

/// A policy for the pods with its name as label `app`, which runs this command before they stop, and sets a label.
pub fn draining(name: &str, command: &str) -> PodPolicy {
    let spec = json!({
        "selector": { "matchLabels": { "app": name } },
        "labels": { "team": "shop" },
        "containers": [{ "lifecycle": { "preStop": { "exec": { "command": [command] } } } }],
    });
    policy(name, &spec)
}

pub fn policy(name: &str, spec: &Value) -> PodPolicy {
    let policy = json!({ "apiVersion": "podpolicy.dev/v1alpha1", "kind": "PodPolicy", "metadata": { "name": name }, "spec": spec });
    serde_json::from_value(policy).expect("it is a policy")
}
