//! `podpolicy check`: what is wrong with manifests and policies, in the format that a person or a program reads.

mod github;
mod json;
mod junit;
mod report;
mod rules;
mod sarif;
mod table;

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use podpolicy_engine::kubernetes::Version;
use podpolicy_manifests::{Check, Facts, Rule, Selected, Services, Severity};

use self::report::Report;
use super::{Inputs, in_parallel, mistake::Mistake, nothing, policies::PolicyFiles, read};
use crate::output;

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    inputs: Inputs,

    /// How to print the findings
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    /// Rules to switch off, comma-separated; can be repeated
    ///
    /// For one object, its annotation podpolicy.dev/check-ignore does the same.
    #[arg(long, value_delimiter = ',', value_name = "RULE", value_parser = rules::ById, hide_possible_values = true)]
    disable: Vec<&'static Rule>,

    /// The least severe findings that make the command exit with 1
    #[arg(long, value_enum, default_value_t, value_name = "SEVERITY")]
    fail_on: Threshold,

    /// List the rules instead
    #[arg(long, exclusive = true)]
    list: bool,

    /// Explain a rule instead: what it finds, why it matters, what to do
    #[arg(long, exclusive = true, value_name = "RULE", value_parser = rules::ById, hide_possible_values = true)]
    explain: Option<&'static Rule>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For people: each finding with the line that it is about
    #[default]
    Table,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for reports of tests
    Junit,
    /// Workflow commands of GitHub Actions, which become annotations of a pull request
    Github,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Threshold {
    Error,
    #[default]
    Warning,
    Note,
}

/// Prints the findings, or what there is to know about rules.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        return output::print(&rules::list()).map(|()| ExitCode::SUCCESS);
    }
    if let Some(rule) = arguments.explain {
        return output::print(&rules::explanation(rule)).map(|()| ExitCode::SUCCESS);
    }
    let report = report(&arguments.inputs, &disabled(&arguments.disable)?);
    output::print(&match arguments.output {
        Format::Table => table::print(&report),
        Format::Json => json::print(&report),
        Format::Sarif => sarif::print(&report),
        Format::Junit => junit::print(&report)?,
        Format::Github => github::print(&report),
    })?;
    if let Format::Table = arguments.output {
        output::say(&report.summary());
    }
    Ok(match report.most_severe() {
        _ if report.is_incomplete() => ExitCode::from(2),
        Some(severity) if severity >= arguments.fail_on.severity() => ExitCode::from(1),
        Some(_) | None => ExitCode::SUCCESS,
    })
}

impl Threshold {
    fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Note => Severity::Note,
        }
    }
}

fn disabled(rules: &[&'static Rule]) -> Result<BTreeSet<&'static str>> {
    let mut disabled = BTreeSet::new();
    for rule in rules {
        if rule.is_mandatory() {
            bail!(
                "--disable {}: this rule cannot be switched off, because nothing else can be relied on where it finds something",
                rule.id
            );
        }
        disabled.insert(rule.id);
    }
    Ok(disabled)
}

/// Reads everything, and looks at it.
fn report(inputs: &Inputs, disabled: &BTreeSet<&'static str>) -> Report {
    let namespace = &inputs.options.namespace;
    let mut report = Report::default();
    let mut readings = [read::read(&inputs.options.policies), read::read(&inputs.paths)];
    for (paths, reading) in [&inputs.options.policies, &inputs.paths].into_iter().zip(&readings) {
        if reading.mistakes.is_empty() {
            nothing::warn(paths, &reading.files);
        }
    }
    for mistake in readings.iter_mut().flat_map(|reading| reading.mistakes.drain(..)) {
        report.add_mistake(Rule::unreadable(), &mistake, None);
    }
    let [policy_files, files] = readings.map(|reading| reading.files);
    // Policies are often named by -p and among the PATHs as well.
    let paths: BTreeSet<_> = files.iter().filter_map(|file| file.path.as_ref()).collect();
    let elsewhere: Vec<_> = policy_files.iter().filter(|file| !file.path.as_ref().is_some_and(|path| paths.contains(path))).collect();
    for file in &elsewhere {
        let problems = file.manifest.documents().iter().filter_map(|document| file.manifest.value(document).err());
        for problem in problems {
            let mistake = Mistake::at(&file.name, problem.position, problem.message);
            report.add_mistake(Rule::unreadable(), &mistake, Some(file.manifest.text()));
        }
    }
    let mut policies = PolicyFiles::default();
    for file in elsewhere.iter().copied().chain(&files) {
        for mistake in policies.take_in(&file.name, &file.manifest, namespace) {
            report.add_mistake(Rule::invalid_policy(), &mistake, Some(file.manifest.text()));
        }
    }
    let (mut facts, mut services) = (Facts::default(), Services::default());
    for file in &files {
        facts.add_manifest(&file.manifest, namespace);
        services.add_manifest(&file.manifest, namespace);
    }
    for (name, labels) in std::mem::take(&mut policies.namespaces) {
        facts.add_namespace(&name, labels);
    }
    let unknown_namespace = facts.unknown().next().map(str::to_owned);
    let program = inputs.options.decided_by(policies.policies, facts);
    let kubernetes = inputs.options.kubernetes_version.unwrap_or(Version::NEWEST);
    let check = Check { program: &program, services: &services, namespace, kubernetes, disabled };
    let (mut pods, mut selecting) = (0, BTreeSet::new());
    for (file, checked) in files.iter().zip(in_parallel("checking", &files, |file| check.pods(&file.manifest))) {
        pods += checked.pods;
        selecting.extend(checked.selecting);
        report.add(&file.name, file.manifest.text(), checked.findings);
    }
    let selected = Selected { selecting: (pods > 0).then_some(&selecting), unknown_namespace: unknown_namespace.as_deref() };
    for file in elsewhere.iter().copied().chain(&files) {
        report.add(&file.name, file.manifest.text(), check.policies(&file.manifest, &selected));
    }
    report.close(elsewhere.iter().copied().chain(&files).map(|file| file.name.as_str()));
    report
}
