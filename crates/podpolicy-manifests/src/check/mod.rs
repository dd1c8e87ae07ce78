//! What is wrong with manifests and policies, or will be. Rules look at pods as they will be once the policies are applied, so that a policy
//! that supplies what a rule asks for satisfies it.

mod decided;
mod finding;
mod ignore;
mod policy;
mod rule;
mod rules;
mod services;
mod structure;
mod subject;
mod versions;

pub use finding::{Finding, Place};
pub use ignore::IGNORE_ANNOTATION;
pub use rule::{Rule, Severity, UnknownRule};
pub use services::Services;

use std::collections::BTreeSet;

use podpolicy_api::GROUP;
use podpolicy_engine::{PolicyId, Program, kubernetes::Version};
use serde::Deserialize as _;
use serde_json::Value as Json;

use self::{
    rule::{INVALID_MANIFEST, UNREADABLE},
    structure::at,
    subject::{Spot, Subject, Template},
};
use crate::{
    Document, Lines, Manifest, Object, Problem, Step, objects,
    pods::{self, Described},
    setting,
};

/// What is known of all files, to look at each with.
#[derive(Debug)]
pub struct Check<'a> {
    /// The policies.
    pub program: &'a Program,
    /// The Services.
    pub services: &'a Services,
    /// The namespace of objects that name none.
    pub namespace: &'a str,
    /// The version of Kubernetes that the manifests are for.
    pub kubernetes: Version,
    /// Rules that are switched off, by id.
    pub disabled: &'a BTreeSet<&'static str>,
}

/// What was found about the pods in a text.
#[derive(Debug, Default)]
pub struct Checked {
    /// The findings, by place.
    pub findings: Vec<Finding>,
    /// How many pods and pod templates were looked at.
    pub pods: usize,
    /// The policies that select some of them.
    pub selecting: BTreeSet<PolicyId>,
}

/// What was found about all pods, as far as policies are concerned.
#[derive(Debug, Default)]
pub struct Selected<'a> {
    /// The policies that select a pod; none where there are no pods.
    pub selecting: Option<&'a BTreeSet<PolicyId>>,
    /// A namespace with pods whose labels are not known.
    pub unknown_namespace: Option<&'a str>,
}

impl Check<'_> {
    /// Looks at the pods and pod templates in a text.
    pub fn pods(&self, manifest: &Manifest) -> Checked {
        let lines = Lines::new(manifest.text());
        let mut checked = Checked::default();
        for document in manifest.documents() {
            let value = match manifest.value(document) {
                Ok(value) => value,
                Err(problem) => {
                    checked.findings.push(of_problem(&UNREADABLE, &lines, problem));
                    continue;
                }
            };
            for object in objects(&value) {
                let about = About { manifest, document, lines: &lines, object: &object, title: object.title(self.namespace) };
                let structural = structure::defects(&object, self.kubernetes);
                let is_told = structural.iter().any(|defect| defect.rule == &INVALID_MANIFEST);
                let tell = |structure::Defect { rule, path, field, message }| about.finding(rule, &path, field, message);
                let mut found: Vec<_> = structural.into_iter().map(tell).collect();
                if let Some(place) = object.template() {
                    match pods::describe(manifest, document, &object, place, self.namespace) {
                        Ok(described) => found.extend(self.pod(&about, &described, is_told, &mut checked)),
                        Err(_) if is_told => {}
                        Err(flaw) => checked.findings.push(of_problem(&INVALID_MANIFEST, &lines, manifest.problem(flaw))),
                    }
                } else if found.is_empty() {
                    continue;
                }
                self.add(&about, found, &mut checked.findings);
            }
        }
        checked.findings.sort_by(Finding::order);
        checked
    }

    /// Looks at the policies in a text.
    pub fn policies(&self, manifest: &Manifest, selected: &Selected<'_>) -> Vec<Finding> {
        let lines = Lines::new(manifest.text());
        let mut findings = Vec::new();
        for document in manifest.documents().iter().filter(|document| manifest.document_text(document).contains(GROUP)) {
            // Documents that cannot be read are told of with the pods.
            let Ok(value) = manifest.value(document) else { continue };
            for object in objects(&value).iter().filter(|object| policy::is_policy(object)) {
                let id = policy::id(object, self.namespace);
                let about = About { manifest, document, lines: &lines, object, title: id.to_string() };
                let found = policy::findings(object, &id, self.program, selected);
                let found = found.into_iter().map(|policy::Told { rule, path, field, message }| about.finding(rule, &path, field, message));
                self.add(&about, found.collect(), &mut findings);
            }
        }
        findings.sort_by(Finding::order);
        findings
    }

    /// What is found about the pod itself. `is_told` is whether it was told already that the pod cannot be read.
    fn pod(&self, about: &About<'_>, described: &Described<'_>, is_told: bool, checked: &mut Checked) -> Vec<Finding> {
        let Described { path, template, pod, title: _ } = described;
        let object = about.object;
        let outcome = self.program.decide(pod);
        checked.pods += 1;
        checked.selecting.extend(outcome.verdicts.iter().map(|verdict| verdict.policy.id().clone()));
        let mut found: Vec<_> = decided::findings(&outcome, template).collect();
        let creation = self.program.render(pod);
        let mut applied = (*template).clone();
        // Containers of one name are told of the manifest.
        if let Ok(change) = setting::change(template, &creation) {
            change.apply(&mut applied);
        }
        found.extend(self.program.selects_once_given(pod, &creation).map(decided::label_selects_policy));
        match Template::deserialize(&applied) {
            Ok(read) => {
                let services = self.services.selecting(&pod.namespace, &read.labels());
                let subject = Subject { template: read, outcome: &outcome, services };
                for (rule, find) in rules::ON_PODS {
                    found.extend(find(&subject).into_iter().map(|spot| (rule, with_origin(spot, &subject, (template, &applied)))));
                }
            }
            // What does not fit was told of the manifest.
            Err(_) if is_told => {}
            Err(error) => {
                let message = format!("it has no pod that can be read: {error}");
                found.push((&INVALID_MANIFEST, Spot { path: Vec::new(), field: String::new(), message, of: None }));
            }
        }
        let finding = |(rule, Spot { path: inner, field, message, of: _ }): (_, Spot)| {
            about.finding(rule, &[path.as_slice(), &inner].concat()[object.path.len()..], field, message)
        };
        found.into_iter().map(finding).collect()
    }

    /// Adds what is not switched off, and what is wrong with what is switched off.
    fn add(&self, about: &About<'_>, found: Vec<Finding>, findings: &mut Vec<Finding>) {
        let ignored = ignore::ignored(about.object);
        let mistakes = ignored.mistakes.into_iter().map(|(rule, message)| about.finding(rule, &ignore::path(), String::new(), message));
        let is_on = |finding: &Finding| !self.disabled.contains(finding.rule.id) && !ignored.rules.contains(finding.rule.id);
        findings.extend(found.into_iter().chain(mistakes).filter(is_on));
    }
}

/// An object, and where it is.
struct About<'a> {
    manifest: &'a Manifest,
    document: &'a Document,
    lines: &'a Lines<'a>,
    object: &'a Object<'a>,
    title: String,
}

impl About<'_> {
    /// A finding about the field on the path from the object on.
    fn finding(&self, rule: &'static Rule, path: &[Step], field: String, message: String) -> Finding {
        let path = [self.object.path.as_slice(), path].concat();
        let start = self.lines.position(self.manifest.offset(self.document, &path));
        Finding { rule, place: Place::at(self.lines, start), object: self.title.clone(), field, message }
    }
}

fn of_problem(rule: &'static Rule, lines: &Lines<'_>, Problem { position, message }: Problem) -> Finding {
    Finding { rule, place: Place::at(lines, position), object: String::new(), field: String::new(), message }
}

/// Says which policy has set what the rule does not like, where it is not the same without policies.
fn with_origin(mut spot: Spot, subject: &Subject<'_>, (before, after): (&Json, &Json)) -> Spot {
    if at(before, &spot.path) != at(after, &spot.path)
        && let Some(policy) = spot.of.as_ref().and_then(|field| subject.set_by(field))
    {
        spot.message = format!("{} (set by {policy})", spot.message);
    }
    spot
}
