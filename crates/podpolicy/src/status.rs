//! `podpolicy status`: the policies of a namespace or a cluster, and the pods that are not as they say.

mod why;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use clap::Args;
use podpolicy_api::{ConditionType, PodPolicyStatus};
use podpolicy_controller::{Config, SeenPolicy, Snapshot, Snapshots};
use podpolicy_engine::PodState;

use crate::{
    cluster::{self, Cluster},
    explain::state,
    output::{self, Table},
    words,
};

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = words::namespace, conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Print it again whenever it has changed, until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Shows how policies and pods stand.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(show(arguments))
}

async fn show(arguments: Arguments) -> Result<()> {
    let Arguments { namespace, all_namespaces, watch, cluster } = arguments;
    let config = cluster.config().await?;
    let namespace = (!all_namespaces).then(|| namespace.unwrap_or_else(|| config.default_namespace.clone()));
    let title = cluster::title(&config);
    let client = cluster::client(config)?;
    let mut snapshots = Snapshots::new(&client, namespace.as_deref(), Config::default());
    let mut shown = String::new();
    let mut blindness = None;
    loop {
        let snapshot = snapshots.next().await.with_context(|| title.clone())?;
        if let Some(new) = snapshot.blindness.as_ref().filter(|new| blindness.as_ref() != Some(*new)) {
            output::warn(&format!("what follows may be incomplete: {new}"));
        }
        blindness.clone_from(&snapshot.blindness);
        let text = text(&snapshot, namespace.as_deref());
        if text != shown {
            let space = if shown.is_empty() { "" } else { "\n" };
            output::print(&format!("{space}{text}"))?;
            shown = text;
        }
        if !watch {
            return Ok(());
        }
    }
}

fn text(snapshot: &Snapshot, namespace: Option<&str>) -> String {
    let Snapshot { policies, pods, blindness: _ } = snapshot;
    if policies.is_empty() {
        return namespace.map_or_else(
            || "there are no policies\n".to_owned(),
            |namespace| format!("there are no policies for namespace {namespace}\n"),
        );
    }
    let mut table = Table::new(&["POLICY", "READY", "REASON", "MATCHED", "COMPLIANT", "OUTDATED", "REFUSED", "PENDING", "ROLLOUT"]);
    for policy in policies {
        table.row(row(policy));
    }
    let mut text = table.to_string();

    let mut table = Table::new(&["POD", "POLICY", "STATE", "WHY"]);
    for seen in pods {
        for verdict in seen.outcome.verdicts.iter().filter(|verdict| verdict.state != PodState::Compliant) {
            let pod = format!("{}/{}", seen.pod.namespace, seen.pod.name);
            table.row([pod, verdict.policy.id().to_string(), state(verdict.state).to_owned(), why::why(&seen.pod, &seen.outcome, verdict)]);
        }
        for policy in &seen.outcome.exempting {
            let pod = format!("{}/{}", seen.pod.namespace, seen.pod.name);
            table.row([
                pod,
                policy.id().to_string(),
                "exempt".to_owned(),
                "its rollout failed: the policy leaves the pod alone".to_owned(),
            ]);
        }
    }
    if !table.is_empty() {
        _ = write!(text, "\n{table}");
    }
    text
}

fn row(SeenPolicy { policy, status, generation }: &SeenPolicy) -> [String; 9] {
    let PodPolicyStatus { pods, rollout, .. } = status;
    let ready = status.condition(ConditionType::Ready);
    // What is said of an earlier spec is not said of this one.
    let is_current = status.observed_generation == *generation;
    let (verdict, reason) = match ready.filter(|_| is_current) {
        Some(ready) => (ready.status.clone(), ready.reason.clone()),
        None => ("Unknown".to_owned(), if ready.is_some() { "not seen by the operator" } else { "no operator has seen it" }.to_owned()),
    };
    let count = |of: fn(&podpolicy_api::PodCounts) -> u32| pods.as_ref().map_or_else(|| "-".to_owned(), |pods| of(pods).to_string());
    let rollout = rollout.as_ref().map_or_else(
        || "-".to_owned(),
        |rollout| {
            let of_workload = rollout.workload_updated.zip(rollout.workload_total).map(|(updated, total)| format!(" {updated}/{total}"));
            let of_workload = of_workload.unwrap_or_default();
            let workload = rollout.workload.as_ref().map(|workload| format!(", {workload}{of_workload}")).unwrap_or_default();
            format!("{:?} {}/{}{workload}", rollout.phase, rollout.updated, rollout.total)
        },
    );
    [
        policy.id().to_string(),
        verdict,
        reason,
        count(|pods| pods.matched),
        count(|pods| pods.compliant),
        count(|pods| pods.outdated),
        count(|pods| pods.refused),
        count(|pods| pods.pending),
        rollout,
    ]
}
