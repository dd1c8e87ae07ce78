//! `podpolicy explain`: each field of one pod, where its value comes from, and what was kept, overridden or refused.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use podpolicy_controller::{Config, SeenPod, Snapshots};
use podpolicy_engine::{Conflict, Field, FieldOutcome, Life, Outcome, PodState, Source};
use serde_json::{Value, json};

use crate::{
    cluster::{self, Cluster},
    output::{self, Table},
};

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The pod's name
    #[arg(value_name = "POD")]
    pod: String,

    /// The pod's namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// Explains the pod.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let format = arguments.output;
    let pod = runtime.block_on(find(arguments))?;
    output::print(&match format {
        Format::Text => text(&pod),
        Format::Json => format!("{:#}\n", json(&pod)),
    })
}

async fn find(arguments: Arguments) -> Result<SeenPod> {
    let Arguments { pod, namespace, output: _, cluster } = arguments;
    let name = pod.strip_prefix("pod/").or_else(|| pod.strip_prefix("pods/")).unwrap_or(&pod);
    let config = cluster.config().await?;
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = cluster::client(config)?;
    let snapshot = Snapshots::new(&client, Some(&namespace), Config::default()).next().await?;
    if let Some(blindness) = &snapshot.blindness {
        output::warn(&format!("what follows may be incomplete: {blindness}"));
    }
    match snapshot.pods.into_iter().find(|seen| seen.pod.name == name) {
        Some(seen) => Ok(seen),
        None => bail!("there is no pod {name} in namespace {namespace}; `kubectl get pods -n {namespace}` lists those that are there"),
    }
}

fn text(SeenPod { pod, outcome }: &SeenPod) -> String {
    let mut text = format!("pod {}/{}\n", pod.namespace, pod.name);
    if outcome.verdicts.is_empty() {
        let why = match pod.life {
            Life::Live => "no policy selects it",
            Life::Ended => "policies select no pod that has ended",
            Life::Untouchable => "policies select no pod that is being deleted, or that kubelet mirrors",
        };
        _ = writeln!(text, "{why}");
    } else {
        let mut policies = Table::new(&["POLICY", "STATE"]);
        for verdict in &outcome.verdicts {
            policies.row([verdict.policy.id().to_string(), state(verdict.state).to_owned()]);
        }
        _ = write!(text, "\n{policies}");
    }
    if !outcome.fields.is_empty() {
        let mut fields = Table::new(&["FIELD", "FROM", "ON THE POD", "VALUE"]);
        for field in &outcome.fields {
            let FieldOutcome { field: name, value, source, done } = field;
            let value = value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            fields.row([name.to_string(), from(source, outcome, name), presence(name, *done).to_owned(), value]);
        }
        _ = write!(text, "\n{fields}");
    }
    for verdict in outcome.verdicts.iter().filter(|verdict| !verdict.findings.is_empty()) {
        _ = writeln!(text, "\n{}", verdict.policy.id());
        for finding in &verdict.findings {
            _ = writeln!(text, "  {} {}: {}", finding.reason, finding.field, finding.message);
        }
    }
    text
}

fn json(SeenPod { pod, outcome }: &SeenPod) -> Value {
    let policies: Vec<_> = outcome
        .verdicts
        .iter()
        .map(|verdict| {
            let findings = verdict.findings.iter();
            let findings: Vec<_> = findings
                .map(|found| {
                    json!({
                        "reason": found.reason.to_string(), "field": found.field.to_string(), "refused": found.refused, "message": found.message,
                    })
                })
                .collect();
            json!({ "policy": verdict.policy.id().to_string(), "state": state(verdict.state), "findings": findings })
        })
        .collect();
    let fields: Vec<_> = outcome
        .fields
        .iter()
        .map(|FieldOutcome { field, value, source, done }| {
            let losers: Vec<_> = losers(outcome, field).collect();
            json!({ "field": field.to_string(), "value": value, "source": name(source), "overridden": losers, "done": done })
        })
        .collect();
    json!({ "namespace": pod.namespace, "pod": pod.name, "policies": policies, "fields": fields })
}

/// "PodPolicy web-standard (over ClusterPodPolicy baseline)"
fn from(source: &Source, outcome: &Outcome, field: &Field) -> String {
    let losers: Vec<_> = losers(outcome, field).collect();
    let source = name(source);
    if losers.is_empty() { source } else { format!("{source} (over {})", losers.join(", ")) }
}

fn name(source: &Source) -> String {
    match source {
        Source::Workload => "the workload".to_owned(),
        Source::Policy(policy) => policy.replace('/', " "),
    }
}

fn losers(outcome: &Outcome, field: &Field) -> impl Iterator<Item = String> {
    let lost = |conflict: &Conflict| (conflict.field == *field).then(|| conflict.loser.id().to_string());
    outcome.conflicts.iter().filter_map(lost).collect::<Vec<_>>().into_iter()
}

fn presence(field: &Field, done: bool) -> &'static str {
    match field {
        _ if done => "yes",
        Field::Label(_) | Field::Annotation(_) => "no: to be written",
        Field::GracePeriod | Field::Container(_) | Field::Probe { .. } | Field::Hook { .. } => "no: once it is replaced",
    }
}

/// How a pod stands with a policy, in a word.
pub(crate) fn state(state: PodState) -> &'static str {
    match state {
        PodState::Compliant => "compliant",
        PodState::Refused => "refused",
        PodState::Outdated => "outdated",
        PodState::Pending => "pending",
    }
}
