//! What these tests start from: workloads whose pods were made before there was a policy.

use std::collections::BTreeSet;
use std::ops::Deref;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use podpolicy_api::{PodPolicyStatus, RolloutPhase, RolloutStatus};
use podpolicy_controller::{AdmissionMode, Config, Watched};
use podpolicy_e2e::kubelet::{FakeKubelet, Fate};
use podpolicy_e2e::policies::verdict;
use podpolicy_e2e::tap::{Exchange, Outcome};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::workload::{Kind, Workload};
use podpolicy_e2e::{Fewest, InProcess, Stage, backend, pods, shared};

/// A policy that gives all pods a grace period, with a rollout.
pub fn grace(seconds: i64, rollout: &str) -> String {
    format!("{{ selector: {{}}, terminationGracePeriodSeconds: {seconds}, rollout: {{ minReadySeconds: 1, {rollout} }} }}")
}

/// A policy that gives all pods a liveness probe that kills after a second, with a rollout.
pub fn liveness(path: &str, rollout: &str) -> String {
    format!(
        "{{ selector: {{}}, containers: [{{ livenessProbe: {{ httpGet: {{ path: {path}, port: 80 }}, periodSeconds: 1, failureThreshold: 1 }} }}], \
         rollout: {{ minReadySeconds: 1, progressDeadlineSeconds: 5, {rollout} }} }}"
    )
}

/// What can be stamped.
const WORKLOADS: [&str; 3] = ["deployments", "statefulsets", "daemonsets"];

/// A namespace with a kubelet.
pub struct Scene {
    stage: Stage,
    pub kubelet: FakeKubelet,
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
        let kubelet = FakeKubelet::start(&stage.client, stage.name());
        Ok(Self { stage, kubelet })
    }

    /// A namespace with Deployments whose pods are ready.
    pub async fn with(prefix: &str, workloads: &[(&str, usize)]) -> anyhow::Result<Self> {
        let scene = Self::set(prefix).await?;
        for (name, pods) in workloads {
            scene.workload(Kind::Deployment, name, *pods).await?;
        }
        Ok(scene)
    }

    pub async fn workload(&self, kind: Kind, name: &str, pods: usize) -> anyhow::Result<Workload> {
        let workload = Workload { pods, ..Workload::new(kind, name) };
        workload.apply(self).await?;
        self.ready(name, pods).await?;
        Ok(workload)
    }

    /// Waits until the workload has so many pods, all ready.
    pub async fn ready(&self, name: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
        let all_ready = |pods: &[Pod]| pods.len() == count && pods.iter().all(pods::is_ready);
        pods::when(&self.pods, &format!("app={name}"), &format!("{count} ready"), all_ready).await
    }

    /// An operator of this namespace, with the backend that the API server has.
    pub async fn operator(&self) -> anyhow::Result<InProcess> {
        self.operator_with(self.config(AdmissionMode::Auto)?).await
    }

    /// How an operator with this backend is configured.
    pub fn config(&self, admission: AdmissionMode) -> anyhow::Result<Config> {
        backend::operator_in(self.name(), admission)
    }

    pub async fn operator_with(&self, config: Config) -> anyhow::Result<InProcess> {
        self.operator_of(shared().await.config(), config).await
    }

    /// An operator of this namespace as the user of a kubeconfig.
    pub async fn operator_of(&self, user: kube::Config, config: Config) -> anyhow::Result<InProcess> {
        let client = self.tap.client(user)?;
        let watched = Watched::Namespaces(BTreeSet::from([self.name().to_owned()]));
        InProcess::start(client, Config { watched, ..config }).await
    }

    /// Waits until the rollout of the policy's present spec is over.
    pub async fn complete(&self, policy: &str) -> anyhow::Result<PodPolicyStatus> {
        let is_complete = |status: &PodPolicyStatus| {
            let rollout = status.rollout.as_ref();
            rollout.is_some_and(|rollout| rollout.phase == RolloutPhase::Complete && rollout.generation == status.observed_generation)
                && verdict(status, "Ready") == "True InForce"
        };
        self.status(policy, "the rollout to be complete", is_complete).await
    }

    /// Waits until Ready has this status and reason, and its message these words.
    pub async fn stands(&self, policy: &str, wanted: &str, words: &[&str]) -> anyhow::Result<PodPolicyStatus> {
        let stands = |status: &PodPolicyStatus| {
            let message = podpolicy_e2e::policies::condition(status, "Ready").map(|ready| ready.message.clone()).unwrap_or_default();
            verdict(status, "Ready") == wanted && words.iter().all(|word| message.contains(word))
        };
        self.status(policy, &format!("{wanted} with {words:?}"), stands).await
    }

    /// Notes from now on how few pods are ready at once.
    pub async fn fewest(&self) -> anyhow::Result<Fewest> {
        Fewest::of(self.pods.clone()).await
    }

    /// Waits for an event of a policy with this reason and these words.
    pub async fn told(&self, reason: &str, words: &[&str]) -> anyhow::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.name());
        eventually(&format!("an event {reason} with {words:?}"), DEADLINE, async || {
            let events = events.list(&ListParams::default()).await?.items;
            let of_policies =
                events.into_iter().filter(|event| event.regarding.as_ref().and_then(|it| it.kind.as_deref()) == Some("PodPolicy"));
            let told: Vec<_> = of_policies.map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect();
            let fits = |(because, note): &(String, String)| because == reason && words.iter().all(|word| note.contains(word));
            Ok(Seen::when(told.iter().any(fits), told))
        })
        .await
    }

    /// From now on pods with this grace period are not ready, and the rollout that gives it to them stands where it is.
    pub fn hold(&self, seconds: i64) {
        let is_held = move |pod: &Pod| grace_of(pod) == Some(seconds);
        self.kubelet.script(move |pod| if is_held(pod) { Fate::NeverReady("starting".to_owned()) } else { Fate::Ready });
    }

    /// Waits until so many pods of the workload are held.
    pub async fn held(&self, name: &str, seconds: i64, count: usize) -> anyhow::Result<Vec<Pod>> {
        let is_held = |pod: &&Pod| grace_of(pod) == Some(seconds) && has_node(pod) && !pods::is_ready(pod);
        let enough = |pods: &[Pod]| pods.iter().filter(is_held).count() == count;
        let found = pods::when(&self.pods, &format!("app={name}"), &format!("{count} held with {seconds} s"), enough).await?;
        Ok(found.into_iter().filter(|pod| is_held(&pod)).collect())
    }

    /// All pods are ready again.
    pub fn release(&self) {
        self.kubelet.script(|_| Fate::Ready);
    }

    /// The workloads that were stamped, in that order.
    pub fn stamped(&self) -> Vec<String> {
        let exchanges = self.tap.exchanges().into_iter();
        exchanges.filter(|sent| WORKLOADS.iter().any(|resource| sent.writes(resource))).map(|sent| sent.name).collect()
    }

    /// What the evictions that were sent came to.
    pub fn evictions(&self) -> Vec<Exchange> {
        self.tap.exchanges().into_iter().filter(|sent| sent.subresource == "eviction").collect()
    }

    /// How many evictions the API server has taken.
    pub fn evicted(&self) -> usize {
        self.evictions().iter().filter(|sent| matches!(sent.outcome, Outcome::Answered(201))).count()
    }

    pub async fn graces(&self) -> anyhow::Result<Vec<i64>> {
        let pods = self.pods.list(&ListParams::default()).await?;
        Ok(pods.iter().filter_map(grace_of).collect())
    }

    pub async fn uids(&self, app: &str) -> anyhow::Result<BTreeSet<String>> {
        let pods = self.pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
        Ok(pods.iter().filter_map(kube::ResourceExt::uid).collect())
    }
}

pub fn rollout(status: &PodPolicyStatus) -> &RolloutStatus {
    status.rollout.as_ref().unwrap_or_else(|| panic!("no rollout in {status:?}"))
}

pub fn grace_of(pod: &Pod) -> Option<i64> {
    pod.spec.as_ref()?.termination_grace_period_seconds
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// Whether the pod has a probe of a policy.
pub fn has_probe(pod: &Pod) -> bool {
    pod.annotations().get("podpolicy.dev/applied").is_some_and(|record| record.contains("livenessProbe"))
}
