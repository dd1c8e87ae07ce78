//! `podpolicy`, the operator and the command line in one binary. Data goes to stdout, messages to stderr.
//! Exit codes: 0 fine, 1 differences or findings, 2 error.

mod cleanup;
mod cluster;
mod compile;
mod completions;
mod crd;
mod explain;
mod files;
mod logging;
mod output;
mod run;
mod schema;
mod status;
mod words;

use std::{path::Path, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use files::mistake::{Mistake, Mistakes};

/// Manifests are many small values: a tenth of the time that commands on files take is saved by this.
#[cfg(not(target_env = "musl"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What scripts go by.
const EXIT_CODES: &str = "Exit codes: 0 fine, or no difference or finding; 1 differences or findings; 2 an error, which stderr explains";

/// The program's name as a plugin of kubectl.
const PLUGIN: &str = "kubectl-podpolicy";

/// The program's name as a function of kustomize.
const FUNCTION: &str = "podpolicy-function";

/// Reconciles labels, annotations, probes and graceful-termination settings onto pods
#[derive(Debug, Parser)]
#[command(name = "podpolicy", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator: reconcile PodPolicies and ClusterPodPolicies until it is told to stop
    Run(Box<run::Arguments>),
    /// Show policies, and the pods that are not as they say
    Status(status::Arguments),
    /// Explain a pod, in the cluster or in files: each field, its value, where it comes from, and what was kept, overridden or refused
    Explain(explain::Arguments),
    /// Print manifests with the policies applied to their pods and pod templates, or edit them in place
    Render(files::render::Arguments),
    /// Print what render would change, as a unified diff; exit with 1 where there is something
    Diff(files::diff::Arguments),
    /// Print what is wrong with manifests and policies, or will be; exit with 1 where there is something
    Check(files::check::Arguments),
    /// Apply policies as a function of kustomize or kpt: a ResourceList on stdin, the same with the policies applied on stdout
    ///
    /// Policies are the function's configuration (a PodPolicy, a ClusterPodPolicy, or a List of them), items of the list, and what -p names.
    /// What there is to say becomes results of the list. The program runs as this command as well where its name is podpolicy-function, for
    /// kustomize, which gives functions no arguments.
    Function(files::function::Arguments),
    /// Print the CustomResourceDefinitions of both kinds
    Crd(crd::Arguments),
    /// Print policies as MutatingAdmissionPolicy objects, for clusters without the operator (Kubernetes 1.36 and later)
    Compile(compile::Arguments),
    /// Print a shell's completions of this command line
    Completions(completions::Arguments),
    /// Print the manual page (roff), to be read with `man -l -`
    Man,
    /// Take away what an uninstalled operator leaves behind: records on pods, and the objects that give new pods their settings
    Cleanup(cleanup::Arguments),
}

fn main() -> ExitCode {
    let result = match arguments().command {
        Command::Run(arguments) => fine(run::run(*arguments)),
        Command::Status(arguments) => fine(status::run(arguments)),
        Command::Explain(arguments) => fine(explain::run(arguments)),
        Command::Render(arguments) => files::render::run(&arguments),
        Command::Diff(arguments) => files::diff::run(&arguments),
        Command::Check(arguments) => files::check::run(&arguments),
        Command::Function(arguments) => files::function::run(&arguments),
        Command::Crd(arguments) => fine(crd::print(&arguments)),
        Command::Compile(arguments) => fine(compile::run(&arguments)),
        Command::Completions(arguments) => fine(completions::print(&arguments, Arguments::command())),
        Command::Man => fine(completions::print_manual(&Arguments::command())),
        Command::Cleanup(arguments) => fine(cleanup::run(arguments)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

/// What the command line says. kubectl finds its plugins under the name `kubectl-podpolicy`; help then says how people call it. Under the name
/// `podpolicy-function` it is the command `function`.
fn arguments() -> Arguments {
    let mut words: Vec<_> = std::env::args_os().collect();
    let name = words.first().and_then(|name| Path::new(name).file_stem()).unwrap_or_default().to_owned();
    if name == FUNCTION {
        words.insert(1, "function".into());
    }
    let command = Arguments::command().mut_subcommands(|command| command.after_help(EXIT_CODES));
    let command = command.bin_name(if name == PLUGIN { "kubectl podpolicy" } else { "podpolicy" });
    Arguments::from_arg_matches(&command.get_matches_from(words)).unwrap_or_else(|error| error.exit())
}

/// The exit code of a command that has no findings.
fn fine(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// Prints one line, but for mistakes in policies, which come with the line that they are in. Many errors repeat their cause in their own
/// words, and those of parsers quote the file, which may hold
/// credentials.
fn report(error: &anyhow::Error) {
    if let Some(mistake) = error.downcast_ref::<Mistake>() {
        output::error(&mistake.to_string());
        return;
    }
    if let Some(Mistakes(mistakes)) = error.downcast_ref() {
        for mistake in mistakes {
            output::error(&mistake.to_string());
        }
        return;
    }
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let line = cause.lines().next().unwrap_or_default();
        if !text.contains(line) {
            text = if text.is_empty() { line.to_owned() } else { format!("{text}: {line}") };
        }
    }
    output::error(&output::cause(&text));
}
