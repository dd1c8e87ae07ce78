//! The native backend: compiled objects, one unit for each pair.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use podpolicy_admission::cel::{Covers, IN_FORCE_CONDITION, Unit, compile};
use podpolicy_api::ClusterPodPolicy;
use podpolicy_e2e::objects;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_engine::Program;
use serde_json::json;

use crate::pair::{Backend, each};

/// A policy whose dry runs tell which units are in force; it selects nothing.
const WITNESS: &str = "witness";

/// Compiled objects on the API server.
pub struct Native {
    client: Client,
}

impl Native {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The names of the units that are in force.
    async fn in_force(&self) -> anyhow::Result<Vec<String>> {
        let policies: Api<ClusterPodPolicy> = Api::all(self.client.clone());
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let answer = policies.patch_status(WITNESS, &params, &Patch::Merge(json!({ "status": { "observedGeneration": 1 } }))).await?;
        let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
        Ok(conditions.into_iter().filter_map(|condition| Some(condition.type_.strip_prefix(IN_FORCE_CONDITION)?.to_owned())).collect())
    }
}

impl Backend for Native {
    async fn enforce(&self, programs: &[(String, Arc<Program>)]) -> anyhow::Result<()> {
        let witness: ClusterPodPolicy = objects::yaml(&format!(
            "{{apiVersion: podpolicy.dev/v1alpha1, kind: ClusterPodPolicy, metadata: {{name: {WITNESS}}}, spec: {{selector: {{matchLabels: {{nothing: has}}}}}}}}"
        ));
        match Api::<ClusterPodPolicy>::all(self.client.clone()).create(&PostParams::default(), &witness).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => _ = other?,
        }
        let mut units = Vec::new();
        for (namespace, program) in programs {
            let Some(Unit { mut policy, mut binding, name, .. }) = unit(program) else { continue };
            // Under a name of the pair, for its namespace only.
            let text = serde_json::to_string(&policy)?.replace(&format!("InForce.{name}"), &format!("InForce.{namespace}"));
            policy = serde_json::from_str(&text)?;
            policy.metadata.name = Some(namespace.clone());
            binding.metadata.name = Some(namespace.clone());
            let spec = binding.spec.as_mut().expect("bindings have a spec");
            spec.policy_name = Some(namespace.clone());
            spec.match_resources.as_mut().expect("bindings name namespaces").namespace_selector = Some(LabelSelector {
                match_labels: Some([("kubernetes.io/metadata.name".to_owned(), namespace.clone())].into()),
                ..LabelSelector::default()
            });
            units.push((policy, binding));
        }
        let names: Vec<_> = units.iter().filter_map(|(policy, _)| policy.metadata.name.clone()).collect();
        each(units.into_iter(), |(policy, binding)| async move {
            Api::<MutatingAdmissionPolicy>::all(self.client.clone()).create(&PostParams::default(), &policy).await?;
            Api::<MutatingAdmissionPolicyBinding>::all(self.client.clone()).create(&PostParams::default(), &binding).await?;
            Ok(())
        })
        .await?;
        eventually("all units to be in force", DEADLINE, async || {
            let in_force = self.in_force().await?;
            let missing: Vec<_> = names.iter().filter(|name| !in_force.contains(name)).collect();
            Ok(Seen::when(missing.is_empty(), format!("{missing:?} are missing")))
        })
        .await
    }

    async fn withdraw(&self, _: &[(String, Arc<Program>)]) -> anyhow::Result<()> {
        let (params, all) = (DeleteParams::default(), ListParams::default());
        Api::<MutatingAdmissionPolicyBinding>::all(self.client.clone()).delete_collection(&params, &all).await?;
        Api::<MutatingAdmissionPolicy>::all(self.client.clone()).delete_collection(&params, &all).await?;
        Ok(())
    }
}

/// The unit that acts in the namespace of the world; none where no policy does.
fn unit(program: &Program) -> Option<Unit> {
    let compilation = compile(program);
    assert_eq!(compilation.omissions, []);
    let mut units = compilation.units;
    let own = units.iter().position(|unit| unit.covers == Covers::Namespace("shop".to_owned()));
    let others = units.iter().position(|unit| unit.covers == Covers::Others && !excludes(unit, "shop"));
    own.or(others).map(|at| units.swap_remove(at))
}

/// Whether the unit's binding leaves a namespace out by name.
fn excludes(unit: &Unit, namespace: &str) -> bool {
    let selector = unit.binding.spec.as_ref().and_then(|spec| spec.match_resources.as_ref()?.namespace_selector.as_ref());
    selector
        .and_then(|selector| selector.match_expressions.as_ref())
        .into_iter()
        .flatten()
        .any(|requirement| requirement.operator == "NotIn" && requirement.values.iter().flatten().any(|value| value == namespace))
}
