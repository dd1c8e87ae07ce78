//! The operator with less than all rights: it needs none but those in `config/rbac`; without one of them it goes on with what it can
//! do, says which is missing, and needs no restart once it is granted.
//!
//! An operator for the whole cluster acts in the namespaces of all tests, so that one test runs at a time.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use anyhow::Context as _;
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use podpolicy_api::{ClusterPodPolicy, FindingReason, PodPolicy, PodPolicyStatus};
use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::objects::{self, apply};
use podpolicy_e2e::policies::{condition, settled, status, verdict};
use podpolicy_e2e::tap::Disturbance;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, InProcess, Options, Tap, TestNamespace};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tracing::subscriber::DefaultGuard;

/// What the policies of these tests set: the one of the namespace, and the one of the cluster.
const OWN: [(&str, &str); 2] = [("labels", "team"), ("annotations", "example.com/own")];
const CLUSTER: [(&str, &str); 2] = [("labels", "org"), ("annotations", "example.com/cluster")];

/// The resources whose objects may select pods, as messages name them.
const SELECTING: [&str; 9] = [
    "services",
    "networkpolicies.networking.k8s.io",
    "poddisruptionbudgets.policy",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "replicationcontrollers",
];

#[tokio::test]
async fn rights_of_the_manifests_are_enough() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    scene.own_is_in_force().await?;
    scene.cluster_is_in_force().await?;

    scene.policies().delete("own", &DeleteParams::default()).await?;
    scene.wait_for(&CLUSTER, &OWN).await?;
    let log = scene.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    operator.stop().await
}

#[tokio::test]
async fn rights_in_one_namespace_are_enough_for_an_operator_of_that_namespace() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.grant_role(&[]).await?;
    apply(&scene.client, scene.namespace.name(), &scene.binding("RoleBinding").to_string()).await?;
    scene.wait_for_access("get", "pods", true).await?;

    let operator = InProcess::in_namespace(scene.user_client(), scene.namespace.name()).await?;
    scene.wait_for(&OWN, &CLUSTER).await?;
    scene.own_is_in_force().await?;
    let log = scene.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    operator.stop().await
}

#[tokio::test]
async fn selectors_that_cannot_be_listed_withhold_labels_and_nothing_else() -> anyhow::Result<()> {
    for resource in SELECTING {
        let scene = Scene::set().await?;
        let operator = scene.operator_without(&[("list", resource)]).await?;
        scene.labels_are_withheld(resource, "list").await.with_context(|| format!("without list on {resource}"))?;
        if resource == "services" {
            scene.grant(&[]).await?;
            scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
            scene.own_is_in_force().await?;
        }
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn selectors_that_cannot_be_watched_withhold_labels_until_they_can() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[("watch", "services")]).await?;
    scene.wait_for_log("may not watch services").await?;
    scene.grant(&[]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    scene.own_is_in_force().await?;
    operator.stop().await
}

#[tokio::test]
async fn selectors_that_cannot_be_listed_are_not_forgotten_when_the_connection_fails() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.grant(&[("list", "services")]).await?;
    let (tap, mut config) = (Tap::default(), scene.plane.config());
    config.auth_info.impersonate = Some(scene.user.clone());
    let operator = InProcess::start(tap.client(config)?, Config::default()).await?;
    scene.labels_are_withheld("services", "list").await?;

    let failing = tap.disturb(Disturbance::Break, |request| request.resource == "services");
    scene.wait_for_log("could not watch services").await?;
    // Decided while nothing but the connection is known to fail.
    scene.create_pod("later").await?;
    let (labels, annotations): (Vec<_>, Vec<_>) = [OWN, CLUSTER].concat().into_iter().partition(|(map, _)| *map == "labels");
    scene.wait_for_on("later", &annotations, &labels).await?;
    scene.wait_for(&annotations, &labels).await?;
    failing.end();
    operator.stop().await
}

#[tokio::test]
async fn pods_that_cannot_be_listed_are_missed_by_name() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[("list", "pods")]).await?;
    scene.both_are_forbidden("list pods").await?;
    scene.wait_for_log("may not list pods").await?;

    scene.grant(&[]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    scene.own_is_in_force().await?;
    operator.stop().await
}

#[tokio::test]
async fn pods_that_cannot_be_watched_are_done_once_and_followed_when_they_can() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[("watch", "pods")]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    scene.both_are_forbidden("watch pods").await?;
    scene.wait_for_log("may not watch pods").await?;

    scene.create_pod("later").await?;
    scene.grant(&[]).await?;
    scene.wait_for_on("later", &[OWN, CLUSTER].concat(), &[]).await?;
    scene.own_is_in_force().await?;
    scene.cluster_is_in_force().await?;
    operator.stop().await
}

#[tokio::test]
async fn pods_that_cannot_be_patched_are_pending_until_they_can() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[("patch", "pods")]).await?;
    let forbidden = |status: &_| verdict(status, "Ready") == "False Forbidden";
    let status_of_own = status(&scene.policies(), "own", "forbidden", forbidden).await?;
    assert_eq!(status_of_own.pods.unwrap().pending, 1, "{status_of_own:#?}");
    assert_eq!(verdict(&status_of_own, "Stalled"), "True Forbidden");
    let message = &condition(&status_of_own, "Ready").unwrap().message;
    assert!(message.contains("cannot patch resource \"pods\"") && message.contains("grant the operator patch on pods"), "{message}");
    let finding = status_of_own.findings.iter().find(|finding| finding.reason == FindingReason::WriteFailed);
    assert_eq!(finding.map(|finding| finding.example.as_str()), Some("web"), "{status_of_own:#?}");
    scene.wait_for_log("could not patch pod").await?;

    scene.grant(&[]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    scene.own_is_in_force().await?;
    operator.stop().await
}

#[tokio::test]
async fn status_that_cannot_be_written_holds_up_no_pod() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[("patch", "podpolicies.podpolicy.dev/status")]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    settled(&scene.cluster_policies(), "cluster", 1).await?;
    scene.wait_for_log("could not write status").await?;
    scene.wait_for_log("cannot patch resource \"podpolicies/status\"").await?;

    scene.grant(&[]).await?;
    scene.own_is_in_force().await?;
    operator.stop().await
}

#[tokio::test]
async fn events_that_may_not_be_told_are_missed_in_the_log_and_nowhere_else() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.operator_without(&[("create", "events.events.k8s.io")]).await?;
    scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
    scene.own_is_in_force().await?;
    scene.cluster_is_in_force().await?;
    scene.wait_for_log("could not tell an event").await?;
    scene.wait_for_log("cannot create resource \"events\"").await?;
    operator.stop().await
}

#[tokio::test]
async fn policies_of_one_kind_that_cannot_be_listed_stop_neither_the_other_kind_nor_what_they_wrote() -> anyhow::Result<()> {
    for (resource, unseen, seen) in
        [("podpolicies.podpolicy.dev", OWN, CLUSTER), ("clusterpodpolicies.podpolicy.dev", CLUSTER, OWN), ("namespaces", CLUSTER, OWN)]
    {
        let scene = Scene::set().await?;
        let operator = scene.operator_without(&[]).await?;
        scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
        operator.stop().await?;

        scene.grant(&[("list", resource)]).await?;
        scene.is_denied("list", resource).await?;
        let operator = scene.operator().await?;
        scene.create_pod("later").await?;
        scene.wait_for_on("later", &seen, &unseen).await.with_context(|| format!("without list on {resource}"))?;
        scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await.with_context(|| format!("without list on {resource}"))?;
        scene.wait_for_log(&format!("may not list {resource}")).await?;

        scene.grant(&[]).await?;
        scene.wait_for_on("later", &[OWN, CLUSTER].concat(), &[]).await.with_context(|| format!("with list on {resource} again"))?;
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn rights_of_the_manifests_are_enough_to_give_pods_their_settings_at_creation() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    scene.grant(&[]).await?;
    let operator = scene.native_operator().await?;
    scene.own_is_in_force().await?;
    scene.cluster_is_in_force().await?;
    scene.create_pod("later").await?;
    scene.no_admission_policies().await?;
    let log = scene.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    operator.stop().await
}

#[tokio::test]
async fn rights_on_admission_policies_are_missed_by_name_until_they_are_granted() -> anyhow::Result<()> {
    let missing = [
        ("create", "mutatingadmissionpolicies", "cannot create resource"),
        ("patch", "mutatingadmissionpolicybindings", "cannot patch resource"),
        ("list", "mutatingadmissionpolicies", "may not list mutatingadmissionpolicies"),
    ];
    for (verb, resource, words) in missing {
        let scene = Scene::set().await?;
        scene.grant(&[(verb, &format!("{resource}.admissionregistration.k8s.io"))]).await?;
        let operator = scene.native_operator().await?;
        let says = |status: &PodPolicyStatus| {
            let ready = condition(status, "Ready").is_some_and(|ready| ready.message.contains(words));
            ready && verdict(status, "Ready") == "False Forbidden" && verdict(status, "Stalled") == "True Forbidden"
        };
        status(&scene.policies(), "own", words, says).await.with_context(|| scene.log())?;
        // Live pods get what can be given to them.
        scene.wait_for(&[OWN, CLUSTER].concat(), &[]).await?;
        scene.grant(&[]).await?;
        scene.own_is_in_force().await.with_context(|| scene.log())?;
        scene.cluster_is_in_force().await?;
        scene.no_admission_policies().await?;
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_right_to_see_is_missed_by_verb_and_resource_when_it_is_gone() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let seen = readable()?;
    anyhow::ensure!(seen.len() > 15, "the manifest lets the operator see little: {seen:?}");
    // The guard is looked at for policies with commands.
    apply(&scene.client, scene.namespace.name(), COMMANDS).await?;
    for (resource, verb) in seen.iter().flat_map(|resource| ["list", "watch"].map(|verb| (resource, verb))) {
        scene.log.forget();
        scene.grant(&[(verb, resource)]).await?;
        scene.is_denied(verb, resource).await?;
        let operator = scene.native_operator().await?;
        let group = resource.split_once('.').map_or("", |(_, group)| group);
        let plural = resource.split('.').next().unwrap_or_default();
        eventually(&format!("the log to name {verb} and {resource}"), DEADLINE, async || {
            let log = scene.log();
            let ours = log.contains(&format!("may not {verb} {plural}"));
            let servers = log.contains(&format!("cannot {verb} resource \\\"{plural}\\\" in API group \\\"{group}\\\""));
            Ok(Seen::when(ours || servers || log.contains(&format!("cannot {verb} resource \"{plural}\" in API group \"{group}\"")), log))
        })
        .await?;
        operator.stop().await?;
    }
    scene.grant(&[]).await?;
    let operator = scene.native_operator().await?;
    scene.cluster_is_in_force().await?;
    scene.no_admission_policies().await?;
    operator.stop().await
}

#[tokio::test]
async fn guard_that_cannot_be_read_is_missed_by_name_until_it_can() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let guard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/guard");
    for file in ["validating_admission_policy.yaml", "validating_admission_policy_binding.yaml"] {
        apply(&scene.client, "default", &fs::read_to_string(guard.join(file))?).await?;
    }
    apply(&scene.client, scene.namespace.name(), COMMANDS).await?;
    for resource in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        let operator = scene.operator_without(&[("get", &format!("{resource}.admissionregistration.k8s.io"))]).await?;
        scene
            .commands_are_refused(&[
                &format!("cannot get resource \"{resource}\""),
                "grant the operator the rights of config/rbac/role.yaml",
            ])
            .await?;
        scene.wait_for(&[OWN[0]], &[]).await?;
        scene.grant(&[]).await?;
        // Which takes reading both and asking: the rest is that the policy came too soon after the guard.
        scene.commands_are_refused(&["the policy is older than the guard"]).await?;
        operator.stop().await?;
    }
    for file in ["validating_admission_policy_binding.yaml", "validating_admission_policy.yaml"] {
        let object: DynamicObject = objects::yaml(&fs::read_to_string(guard.join(file))?);
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap())?;
        let api: Api<DynamicObject> = Api::all_with(scene.client.clone(), &ApiResource::from_gvk(&kind));
        api.delete(&object.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

/// A policy that runs a command.
const COMMANDS: &str = "
    apiVersion: podpolicy.dev/v1alpha1
    kind: PodPolicy
    metadata: { name: own }
    spec: { selector: {}, labels: { team: shop }, containers: [{ lifecycle: { preStop: { exec: { command: [drain] } } } }] }
";

/// The control plane for as long as one test has it to itself, with a namespace, a pod, a policy of each kind, and a user for the operator.
struct Scene {
    // Dropped in this order: the namespace while it is still this test's turn.
    namespace: TestNamespace,
    client: Client,
    plane: &'static ControlPlane,
    user: String,
    log: Log,
    _logging: DefaultGuard,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    async fn set() -> anyhow::Result<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let start = || ControlPlane::start(Options { crds: true, controller_manager: false });
        let plane = PLANE.get_or_try_init(start).await?;
        let namespace = TestNamespace::create(&plane.config(), "rights").await?;
        let (log, logging) = Log::start();
        let user = format!("operator-of-{namespace}");
        let scene = Self { namespace, client: plane.client(), plane, user, log, _logging: logging, _turn: turn };
        scene.cluster_policies().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        scene.create_pod("web").await?;
        let policies = "
            apiVersion: podpolicy.dev/v1alpha1
            kind: PodPolicy
            metadata: { name: own }
            spec: { selector: {}, labels: { team: shop }, annotations: { example.com/own: 'yes' } }
            ---
            apiVersion: podpolicy.dev/v1alpha1
            kind: ClusterPodPolicy
            metadata: { name: cluster }
            spec: { selector: {}, labels: { org: acme }, annotations: { example.com/cluster: 'yes' } }
        ";
        apply(&scene.client, scene.namespace.name(), policies).await?;
        Ok(scene)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    fn policies(&self) -> Api<PodPolicy> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    fn cluster_policies(&self) -> Api<ClusterPodPolicy> {
        Api::all(self.client.clone())
    }

    async fn create_pod(&self, name: &str) -> anyhow::Result<()> {
        self.pods().create(&PostParams::default(), &objects::pod(name, &[])).await?;
        Ok(())
    }

    /// An operator with the rights of the manifests, less these.
    async fn operator_without(&self, missing: &[(&str, &str)]) -> anyhow::Result<InProcess> {
        self.grant(missing).await?;
        self.operator().await
    }

    /// An operator with the rights that were granted last.
    async fn operator(&self) -> anyhow::Result<InProcess> {
        InProcess::start(self.user_client(), Config::default()).await
    }

    /// The same, which lets the API server give pods their settings.
    async fn native_operator(&self) -> anyhow::Result<InProcess> {
        InProcess::start(self.user_client(), Config { admission: AdmissionMode::Native, ..Config::default() }).await
    }

    /// Deletes the policies, and waits until the objects made of them are gone and act no more: the next tests are others' turn.
    async fn no_admission_policies(&self) -> anyhow::Result<()> {
        self.policies().delete("own", &DeleteParams::default()).await?;
        self.cluster_policies().delete("cluster", &DeleteParams::default()).await?;
        let admission_policies: Api<MutatingAdmissionPolicy> = Api::all(self.client.clone());
        eventually("the objects made of policies to go", DEADLINE, async || {
            let left: Vec<_> = admission_policies.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
            let dry_run = PostParams { dry_run: true, ..PostParams::default() };
            let pod = self.pods().create(&dry_run, &objects::pod("as-declared", &[])).await?;
            Ok(Seen::when(left.is_empty() && pod.labels().is_empty(), (left, pod.metadata, self.log())))
        })
        .await
    }

    /// A client of the operator's user.
    fn user_client(&self) -> Client {
        self.plane.client_as(&self.user, &["system:authenticated"])
    }

    /// Gives the operator's user the rights of the manifests, less these: verb and `resource.group/subresource`.
    async fn grant(&self, missing: &[(&str, &str)]) -> anyhow::Result<()> {
        self.grant_role(missing).await?;
        apply(&self.client, "default", &self.binding("ClusterRoleBinding").to_string()).await?;
        // The first time all rights come at once, and no test takes this one. Later, tests wait for what a right brings.
        self.wait_for_access("get", "pods", true).await
    }

    async fn grant_role(&self, missing: &[(&str, &str)]) -> anyhow::Result<()> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rbac/role.yaml");
        let mut rules = one_by_one(&objects::yaml(&fs::read_to_string(&manifest)?));
        for (verb, resource) in missing {
            let reduced = rules.iter_mut().find(|rule| name_of(rule) == *resource).with_context(|| format!("no rule for {resource}"))?;
            let before = reduced.verbs.len();
            reduced.verbs.retain(|granted| granted != verb);
            anyhow::ensure!(reduced.verbs.len() < before, "the manifest does not grant {verb} on {resource}");
        }
        rules.retain(|rule| !rule.verbs.is_empty());
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": self.user },
            "rules": rules,
        });
        apply(&self.client, "default", &role.to_string()).await?;
        Ok(())
    }

    /// The role, bound to the operator's user.
    fn binding(&self, kind: &str) -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": { "name": self.user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self.user },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user }],
        })
    }

    async fn is_denied(&self, verb: &str, resource: &str) -> anyhow::Result<()> {
        self.wait_for_access(verb, resource, false).await
    }

    /// Waits until the API server has taken in what was granted.
    async fn wait_for_access(&self, verb: &str, resource: &str, allowed: bool) -> anyhow::Result<()> {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let question = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(self.user.clone()),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(self.namespace.name().to_owned()),
                    verb: Some(verb.to_owned()),
                    resource: Some(plural.to_owned()),
                    group: Some(group.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        eventually(&format!("the right to {verb} {resource} to be {allowed}"), DEADLINE, async || {
            let answer = reviews.create(&PostParams::default(), &question).await?.status;
            Ok(Seen::when(answer.as_ref().is_some_and(|answer| answer.allowed == allowed), answer))
        })
        .await
    }

    /// Waits until the pod `web` has these keys and lacks those.
    async fn wait_for(&self, present: &[(&str, &str)], absent: &[(&str, &str)]) -> anyhow::Result<()> {
        self.wait_for_on("web", present, absent).await
    }

    async fn wait_for_on(&self, name: &str, present: &[(&str, &str)], absent: &[(&str, &str)]) -> anyhow::Result<()> {
        let pods = self.pods();
        eventually(&format!("pod {name} with {present:?} and without {absent:?}"), DEADLINE, async || {
            let pod = pods.get(name).await?;
            let has = |(map, key): &(&str, &str)| match *map {
                "labels" => pod.labels().contains_key(*key),
                _ => pod.annotations().contains_key(*key),
            };
            let done = present.iter().all(has) && !absent.iter().any(has);
            Ok(Seen::when(done, (pod.labels(), pod.annotations(), self.log.text())))
        })
        .await
    }

    /// Annotations arrive, labels do not, and both the status and the log say what is missing.
    async fn labels_are_withheld(&self, resource: &str, verb: &str) -> anyhow::Result<()> {
        let (labels, annotations): (Vec<_>, Vec<_>) = [OWN, CLUSTER].concat().into_iter().partition(|(map, _)| *map == "labels");
        self.wait_for(&annotations, &labels).await?;
        let own = settled(&self.policies(), "own", 1).await?;
        anyhow::ensure!(verdict(&own, "Ready") == "False Refused", "{own:#?}");
        let finding = own.findings.iter().find(|finding| finding.reason == FindingReason::SelectorsUnknown);
        let finding = finding.with_context(|| format!("nothing about selectors in {own:#?}"))?;
        anyhow::ensure!(finding.field == "labels[team]" && finding.message.contains(resource), "{finding:?}");
        self.wait_for_log(&format!("may not {verb} {resource}")).await
    }

    async fn own_is_in_force(&self) -> anyhow::Result<()> {
        let holds = |status: &PodPolicyStatus| verdict(status, "Ready") == "True InForce" && status.findings.is_empty();
        status(&self.policies(), "own", "in force", holds).await.map(drop)
    }

    async fn cluster_is_in_force(&self) -> anyhow::Result<()> {
        let holds = |status: &PodPolicyStatus| verdict(status, "Ready") == "True InForce" && status.findings.is_empty();
        status(&self.cluster_policies(), "cluster", "in force", holds).await.map(drop)
    }

    /// Both policies say that the operator may not do this.
    async fn both_are_forbidden(&self, what: &str) -> anyhow::Result<()> {
        let says = |status: &_| {
            let named = condition(status, "Ready").is_some_and(|ready| ready.message.contains(&format!("may not {what}")));
            named && verdict(status, "Ready") == "False Forbidden" && verdict(status, "Stalled") == "True Forbidden"
        };
        status(&self.policies(), "own", &format!("may not {what}"), says).await?;
        status(&self.cluster_policies(), "cluster", &format!("may not {what}"), says).await?;
        Ok(())
    }

    /// The policy of the namespace says that its commands are refused, in these words.
    async fn commands_are_refused(&self, words: &[&str]) -> anyhow::Result<()> {
        let says = |status: &PodPolicyStatus| {
            let finding = status.findings.iter().find(|finding| finding.reason == FindingReason::ExecNotAllowed);
            finding.is_some_and(|finding| words.iter().all(|words| finding.message.contains(words)))
        };
        status(&self.policies(), "own", &format!("commands are refused: {words:?}"), says).await.map(drop)
    }

    fn log(&self) -> String {
        self.log.text()
    }

    async fn wait_for_log(&self, text: &str) -> anyhow::Result<()> {
        eventually(&format!("a log line with {text:?}"), DEADLINE, async || {
            let log = self.log.text();
            Ok(Seen::when(log.contains(text), log))
        })
        .await
    }
}

/// What the manifest lets the operator list and watch, as messages have it.
fn readable() -> anyhow::Result<Vec<String>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rbac/role.yaml");
    let rules = one_by_one(&objects::yaml(&fs::read_to_string(&manifest)?));
    let is_readable = |rule: &&PolicyRule| rule.verbs.iter().any(|verb| verb == "watch");
    // The configuration of the webhook is of no interest to an operator without one.
    Ok(rules.iter().filter(is_readable).map(name_of).filter(|name| !name.starts_with("mutatingwebhookconfigurations")).collect())
}

/// The rules of a role, one for each resource.
fn one_by_one(role: &ClusterRole) -> Vec<PolicyRule> {
    let rules = role.rules.iter().flatten();
    let each = |rule: &PolicyRule| {
        let resources = rule.resources.clone().unwrap_or_default();
        let alone = |resource| PolicyRule { resources: Some(vec![resource]), ..rule.clone() };
        resources.into_iter().map(alone).collect::<Vec<_>>()
    };
    rules.flat_map(each).collect()
}

/// `resource.group/subresource`, as messages have it.
fn name_of(rule: &PolicyRule) -> String {
    let first = |names: &Option<Vec<String>>| names.iter().flatten().next().cloned().unwrap_or_default();
    let (group, resource) = (first(&rule.api_groups), first(&rule.resources));
    let (plural, subresource) =
        resource.split_once('/').map_or((resource.as_str(), String::new()), |(plural, sub)| (plural, format!("/{sub}")));
    if group.is_empty() { resource } else { format!("{plural}.{group}{subresource}") }
}

/// What the operator logs on the thread of the test.
#[derive(Clone, Default)]
struct Log {
    text: Arc<StdMutex<Vec<u8>>>,
}

impl Log {
    /// Collects for as long as the guard lives.
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let filter = tracing_subscriber::EnvFilter::new("podpolicy_controller=info");
        let collector = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(collector))
    }

    /// Begins anew.
    fn forget(&self) {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
