//! `podpolicy cleanup`: takes away what an operator leaves behind when it is uninstalled.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;
use podpolicy_controller::{CleanUp, CleanedUp, clean_up};

use crate::{
    cluster::{self, Cluster},
    output, words,
};

/// No answer takes longer: a page of pods is the longest.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Take labels and annotations that policies wrote off the pods as well, and put back what they replaced [default: they stay]
    #[arg(long)]
    undo: bool,

    /// Only say what would be taken away; also while an operator runs, or there are policies
    #[arg(long)]
    dry_run: bool,

    /// Go on although an operator runs, which writes the records again, or although there are policies, which nobody can undo
    /// afterwards
    #[arg(long)]
    force: bool,

    /// Only the pods of this namespace, and none of the objects that belong to no namespace [default: the whole cluster]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = words::namespace)]
    namespace: Option<String>,

    /// The operator's own namespace, where its Lease is
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "podpolicy-system")]
    own_namespace: String,

    #[command(flatten)]
    cluster: Cluster,
}

/// Cleans up, and prints what was taken away.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let dry_run = arguments.dry_run;
    let done = runtime.block_on(clean(arguments))?;
    output::print(&report(&done, dry_run))?;
    warn(&done);
    match done.failures.len() {
        0 => Ok(()),
        left => bail!("{left} objects could not be cleaned up; the lines above say why; run it again"),
    }
}

async fn clean(arguments: Arguments) -> Result<CleanedUp> {
    let Arguments { undo, dry_run, force, namespace, own_namespace, cluster } = arguments;
    let mut config = cluster.config().await?;
    config.read_timeout = Some(READ_TIMEOUT);
    let title = cluster::title(&config);
    let client = cluster::client(config)?;
    clean_up(&client, &CleanUp { namespace, own_namespace, undo, dry_run, force }, Timestamp::now()).await.context(title)
}

fn report(done: &CleanedUp, dry_run: bool) -> String {
    let (deleted, taken, undid) =
        if dry_run { ("would delete", "would take the record off", "undo") } else { ("deleted", "took the record off", "undid") };
    let mut lines: Vec<_> = done.objects.iter().map(|object| format!("{deleted} {object}\n")).collect();
    for (namespace, pods) in &done.pods {
        let counted = if pods.count == 1 { "1 pod".to_owned() } else { format!("{} pods", pods.count) };
        let undone: Vec<_> = pods.undone.iter().map(String::as_str).collect();
        let undone = if undone.is_empty() { String::new() } else { format!(", and {undid} {}", undone.join(", ")) };
        lines.push(format!("{taken} {counted} in namespace {namespace}{undone}\n"));
    }
    if lines.is_empty() {
        lines.push("nothing to clean up\n".to_owned());
    }
    lines.concat()
}

#[allow(clippy::print_stderr, reason = "messages of a command line go to stderr")]
fn warn(done: &CleanedUp) {
    for (object, reason) in &done.failures {
        eprintln!("podpolicy: {object}: {reason}");
    }
}
