//! What the tests of one namespace start from.

use std::collections::BTreeSet;
use std::ops::Deref;

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use podpolicy_api::{AdmissionStatus, PodPolicyStatus};
use podpolicy_controller::{AdmissionMode, Config, Watched};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{InProcess, Stage, objects, shared};

/// The labels of the pods that the policies select.
pub const WEB: [(&str, &str); 1] = [("app", "web")];

/// What a policy says that gives a team to the pods of [`WEB`].
pub fn team(team: &str) -> String {
    format!("{{ selector: {{ matchLabels: {{ app: web }} }}, labels: {{ team: {team} }} }}")
}

/// A namespace, and the objects that are about it.
pub struct Scene {
    stage: Stage,
    pub admission_policies: Api<MutatingAdmissionPolicy>,
    pub bindings: Api<MutatingAdmissionPolicyBinding>,
}

impl Deref for Scene {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl Scene {
    pub async fn set(prefix: &str) -> anyhow::Result<Self> {
        let stage = Stage::set(prefix).await?;
        let client = stage.client.clone();
        Ok(Self { stage, admission_policies: Api::all(client.clone()), bindings: Api::all(client) })
    }

    /// An operator of this namespace with the native backend.
    pub async fn native(&self) -> anyhow::Result<InProcess> {
        self.operator_with(AdmissionMode::Native).await
    }

    pub async fn operator_with(&self, admission: AdmissionMode) -> anyhow::Result<InProcess> {
        let client = self.tap.client(shared().await.config())?;
        let watched = Watched::Namespaces(BTreeSet::from([self.name().to_owned()]));
        InProcess::start(client, Config { watched, admission, ..Config::default() }).await
    }

    /// The name of the objects of the namespace.
    pub fn unit(&self) -> String {
        format!("podpolicy-namespace-{}", self.name())
    }

    /// Waits until the policy is ready for its present spec.
    pub async fn ready(&self, policy: &str) -> anyhow::Result<PodPolicyStatus> {
        self.status(policy, "ready", |status| verdict(status, "Ready").starts_with("True")).await
    }

    /// Creates a pod, and says which team it has from the start.
    pub async fn new_team(&self, name: &str) -> anyhow::Result<Option<String>> {
        Ok(self.create_pod(name, &WEB).await?.labels().get("team").cloned())
    }

    /// What a pod would be if it were created now.
    pub async fn would_be(&self) -> anyhow::Result<Pod> {
        Ok(self.pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &objects::pod("would-be", &WEB)).await?)
    }

    /// Waits until new pods have this team.
    pub async fn team_at_creation(&self, team: Option<&str>) -> anyhow::Result<()> {
        eventually(&format!("new pods to have team {team:?}"), DEADLINE, async || {
            let pod = self.would_be().await?;
            Ok(Seen::when(pod.labels().get("team").map(String::as_str) == team, pod.labels()))
        })
        .await
    }

    /// Which of the two objects of the namespace are there.
    pub async fn present(&self) -> anyhow::Result<[bool; 2]> {
        let name = self.unit();
        Ok([self.admission_policies.get_opt(&name).await?.is_some(), self.bindings.get_opt(&name).await?.is_some()])
    }

    /// Waits until both objects of the namespace are there, or neither.
    pub async fn wait_for_objects(&self, are_there: bool) -> anyhow::Result<()> {
        eventually(&format!("the objects to be there: {are_there}"), DEADLINE, async || {
            let present = self.present().await?;
            Ok(Seen::when(present == [are_there; 2], present))
        })
        .await
    }

    /// How many requests that change these objects the operators have sent.
    pub fn writes(&self) -> usize {
        let exchanges = self.tap.exchanges();
        exchanges.iter().filter(|sent| sent.writes("mutatingadmissionpolicies") || sent.writes("mutatingadmissionpolicybindings")).count()
    }
}

/// `status.admission`.
pub fn admission(status: &PodPolicyStatus) -> &AdmissionStatus {
    status.admission.as_ref().unwrap_or_else(|| panic!("no admission in {status:?}"))
}
