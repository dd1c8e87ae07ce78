//! What others add to the configuration. Platforms and people narrow the selectors of webhooks, and some restore their additions for ever.
//! Pure.
//!
//! Additions are kept, because undoing them would never end. The pods that they leave out are always reported. An expression of the
//! operator's own that somebody changed is not an addition.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use k8s_openapi::{
    api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, Time},
};
use kube::core::{Selector, SelectorExt as _};
use podpolicy_engine::{NAME_LABEL, Policy, PolicyKind, Program};
use sha2::{Digest as _, Sha256};

/// The annotation that lists the operator's own expressions in each webhook's namespaceSelector, because selectors are owned as a whole:
/// without it an expression of an earlier program could not be told from one that somebody else added.
pub(super) const OWN_EXPRESSIONS: &str = "podpolicy.dev/own-expressions";

/// How many expressions, and how many values of each, a message has.
const MOST_WORDS: usize = 5;

/// The pods that somebody else keeps from the webhook, read from the live configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Narrowed {
    /// The object, what somebody else added to it, and what to do.
    pub message: String,
    /// The namespaces in which pods are left out.
    pub namespaces: BTreeMap<String, LeftOut>,
}

/// How many pods somebody else keeps from the webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeftOut {
    /// None: all are asked about.
    Nothing,
    /// Some, or it depends on the pod.
    Partly,
    /// All of them.
    Wholly,
}

impl Narrowed {
    /// How many of the policy's pods are left out.
    pub fn leaves_out(&self, policy: &Policy, program: &Program) -> LeftOut {
        if policy.is_audit() {
            return LeftOut::Nothing;
        }
        let of = |namespace: &str| self.namespaces.get(namespace).copied().unwrap_or(LeftOut::Nothing);
        match policy.id().kind {
            PolicyKind::PodPolicy => of(&policy.id().namespace),
            PolicyKind::ClusterPodPolicy => {
                let acts_in = |namespace: &str| {
                    let selects = |selector: &podpolicy_engine::Selector| selector.matches(&labels(program, namespace));
                    !program.excluded_namespaces().contains(namespace) && policy.namespace_selector().is_none_or(selects)
                };
                if !self.namespaces.keys().any(|namespace| acts_in(namespace)) {
                    return LeftOut::Nothing;
                }
                let is_asked_about = |namespace: &str| of(namespace) != LeftOut::Wholly && acts_in(namespace);
                if program.namespaces().any(is_asked_about) { LeftOut::Partly } else { LeftOut::Wholly }
            }
        }
    }
}

/// The value of the annotation for these webhooks.
pub(super) fn own_expressions(webhooks: &[MutatingWebhook]) -> String {
    let of = |webhook: &MutatingWebhook| expressions(webhook).iter().map(mark).collect::<Vec<_>>();
    let marks: BTreeMap<_, _> = webhooks.iter().map(|webhook| (&webhook.name, of(webhook))).collect();
    serde_json::to_string(&marks).expect("a map of lists of texts can always be written as JSON")
}

/// The live webhook without what others may add; equal to the wanted one if nothing of the operator's own was removed or changed.
pub(super) fn without_additions(live: &MutatingWebhook, wanted: &MutatingWebhook) -> MutatingWebhook {
    let mut own = live.clone();
    if wanted.client_config.ca_bundle.is_none() {
        own.client_config.ca_bundle = None;
    }
    if missing(live, wanted).next().is_none() {
        own.namespace_selector.clone_from(&wanted.namespace_selector);
    }
    // The operator's own selects every pod: all that is there was added.
    own.object_selector.clone_from(&wanted.object_selector);
    let conditions = |webhook: &MutatingWebhook| webhook.match_conditions.clone().unwrap_or_default();
    let found = conditions(live);
    if conditions(wanted).iter().all(|condition| found.contains(condition)) {
        own.match_conditions.clone_from(&wanted.match_conditions);
    }
    own
}

/// Puts what others added to the live configuration into the wanted one, before it is written. matchConditions, labels and annotations need
/// no such care: server-side apply leaves those of others alone.
pub(super) fn keep_additions(live: &MutatingWebhookConfiguration, wanted: &mut MutatingWebhookConfiguration) {
    let annotations = live.metadata.annotations.as_ref();
    let recorded: BTreeMap<String, BTreeSet<String>> = annotations
        .and_then(|annotations| annotations.get(OWN_EXPRESSIONS))
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    for wanted in wanted.webhooks.iter_mut().flatten() {
        // Without a record every expression may be an earlier operator's. An enforcer adds its own again, and they are kept then.
        let (Some(live), Some(recorded)) = (named(live, &wanted.name), recorded.get(&wanted.name)) else { continue };
        let added = added_expressions(live, wanted, recorded);
        let selector = wanted.namespace_selector.get_or_insert_default();
        selector.match_expressions.get_or_insert_default().extend(added);
        selector.match_labels = live.namespace_selector.as_ref().and_then(|selector| selector.match_labels.clone());
        if let Some(objects) = &live.object_selector {
            wanted.object_selector = Some(objects.clone());
        }
    }
}

/// The pods that additions to a live configuration leave out. None if the operator wants to be asked about none of them.
pub(super) fn narrowed(live: &MutatingWebhookConfiguration, wanted: &MutatingWebhookConfiguration, program: &Program) -> Option<Narrowed> {
    let mut texts = BTreeSet::new();
    let mut namespaces = BTreeMap::new();
    for wanted in wanted.webhooks.iter().flatten() {
        let Some(live) = named(live, &wanted.name) else { continue };
        let own = expressions(wanted);
        let selector = live.namespace_selector.clone().unwrap_or_default();
        let by_namespace = LabelSelector {
            match_expressions: selector.match_expressions.map(|all| all.into_iter().filter(|one| !own.contains(one)).collect()),
            match_labels: selector.match_labels,
        };
        let by_object = live.object_selector.clone().unwrap_or_default();
        let own_conditions = wanted.match_conditions.clone().unwrap_or_default();
        let by_condition: Vec<_> = live.match_conditions.iter().flatten().filter(|condition| !own_conditions.contains(condition)).collect();
        for (field, selector) in [("namespaceSelector", &by_namespace), ("objectSelector", &by_object)] {
            texts.extend(in_words(selector).map(|words| format!("{words} in {field}")));
        }
        texts.extend(by_condition.iter().map(|condition| format!("{:?} in matchConditions", condition.name)));

        let depends_on_pod = in_words(&by_object).is_some() || !by_condition.is_empty();
        if !depends_on_pod && in_words(&by_namespace).is_none() {
            continue;
        }
        // API servers accept no selector that cannot be read.
        let asked_about = Selector::try_from(wanted.namespace_selector.clone().unwrap_or_default()).unwrap_or_default();
        let by_namespace = Selector::try_from(by_namespace).unwrap_or_default();
        for namespace in program.namespaces() {
            let labels = labels(program, namespace);
            if !asked_about.matches(&labels) {
                continue;
            }
            if !by_namespace.matches(&labels) {
                namespaces.insert(namespace.to_owned(), LeftOut::Wholly);
            } else if depends_on_pod {
                namespaces.insert(namespace.to_owned(), LeftOut::Partly);
            }
        }
    }
    if namespaces.is_empty() {
        return None;
    }
    let name = live.metadata.name.as_deref().unwrap_or_default();
    let texts: Vec<_> = texts.into_iter().take(MOST_WORDS).collect();
    let message = format!(
        "somebody else narrowed MutatingWebhookConfiguration {name}, and pods that it leaves out are created without settings: {}; remove \
         these expressions, or exclude those pods from the policies",
        texts.join("; ")
    );
    Some(Narrowed { message, namespaces })
}

/// The manager in managedFields that changed the configuration last, apart from the operator's own.
pub(super) fn last_writer(live: &MutatingWebhookConfiguration, own: &str) -> Option<String> {
    let entries = live.metadata.managed_fields.iter().flatten();
    let named = entries.filter_map(|entry| Some((entry.time.as_ref().map(|Time(time)| *time), entry.manager.as_deref()?)));
    named.filter(|(_, manager)| *manager != own).max().map(|(_, manager)| manager.to_owned())
}

fn named<'a>(configuration: &'a MutatingWebhookConfiguration, name: &str) -> Option<&'a MutatingWebhook> {
    configuration.webhooks.iter().flatten().find(|webhook| webhook.name == name)
}

fn expressions(webhook: &MutatingWebhook) -> &[LabelSelectorRequirement] {
    webhook.namespace_selector.as_ref().and_then(|selector| selector.match_expressions.as_deref()).unwrap_or_default()
}

/// The operator's own expressions that the live webhook lacks.
fn missing<'a>(live: &'a MutatingWebhook, wanted: &'a MutatingWebhook) -> impl Iterator<Item = &'a LabelSelectorRequirement> {
    let found = expressions(live);
    expressions(wanted).iter().filter(|expression| !found.contains(expression))
}

/// The expressions of the live webhook that are neither wanted nor an earlier program's, nor an own one that somebody changed.
fn added_expressions(live: &MutatingWebhook, wanted: &MutatingWebhook, recorded: &BTreeSet<String>) -> Vec<LabelSelectorRequirement> {
    let own = expressions(wanted);
    let found: BTreeSet<_> = expressions(live).iter().map(mark).collect();
    // An own one that is gone, and one of the same key and operator: it was changed.
    let gone: BTreeSet<_> = recorded.difference(&found).filter_map(|mark| mark.rsplit_once(' ')).map(|(what, _)| what).collect();
    let is_added = |expression: &&LabelSelectorRequirement| {
        !own.contains(expression) && !recorded.contains(&mark(expression)) && !gone.contains(what(expression).as_str())
    };
    expressions(live).iter().filter(is_added).cloned().collect()
}

/// An expression in a few bytes, however many values it has.
fn mark(expression: &LabelSelectorRequirement) -> String {
    let mut hash = Sha256::new();
    for value in expression.values.iter().flatten() {
        // No value of a label has a line break.
        hash.update(value.as_bytes());
        hash.update(b"\n");
    }
    let mut mark = what(expression);
    mark.push(' ');
    for byte in hash.finalize().iter().take(8) {
        write!(mark, "{byte:02x}").expect("a text can always be written to");
    }
    mark
}

fn what(expression: &LabelSelectorRequirement) -> String {
    format!("{} {}", expression.key, expression.operator)
}

/// A namespace's labels, or its name where they are not known.
fn labels<'a>(program: &'a Program, namespace: &str) -> Cow<'a, BTreeMap<String, String>> {
    let by_name = || [(NAME_LABEL.to_owned(), namespace.to_owned())].into();
    program.namespace_labels(namespace).map_or_else(|| Cow::Owned(by_name()), Cow::Borrowed)
}

fn in_words(selector: &LabelSelector) -> Option<String> {
    let few = |mut words: Vec<String>, separator: &str| {
        let more = words.len().saturating_sub(MOST_WORDS);
        words.truncate(MOST_WORDS);
        let rest = if more == 0 { String::new() } else { format!("{separator}and {more} more") };
        words.join(separator) + &rest
    };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let what = what(expression);
        let values = expression.values.clone().unwrap_or_default();
        if values.is_empty() { what } else { format!("{what} ({})", few(values, ", ")) }
    });
    let all: Vec<_> = labels.chain(expressions).collect();
    (!all.is_empty()).then(|| few(all, ", "))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use k8s_openapi::api::admissionregistration::v1::MatchCondition;
    use podpolicy_engine::{NamespaceFacts, Settings};
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::webhook::{
        Endpoint, Options,
        configuration::{configuration, is_as_wanted},
    };

    fn policy(name: &str, spec: Json) -> Arc<Policy> {
        let mut whole = json!({ "selector": {}, "labels": { "team": "shop" } });
        let Json::Object(spec) = spec else { panic!("{spec} is no object") };
        whole.as_object_mut().unwrap().extend(spec);
        Arc::new(match name.split_once('/') {
            Some((namespace, name)) => {
                let metadata = json!({ "name": name, "namespace": namespace });
                Policy::from_namespaced(&serde_json::from_value(json!({ "metadata": metadata, "spec": whole })).unwrap())
            }
            None => Policy::from_cluster(&serde_json::from_value(json!({ "metadata": { "name": name }, "spec": whole })).unwrap()),
        })
    }

    /// A program of these policies, with namespaces and one more label that each has.
    fn program(policies: &[&Arc<Policy>], namespaces: &[(&str, (&str, &str))]) -> Program {
        let facts = |(name, label): &(&str, (&str, &str))| {
            let labels = [(NAME_LABEL, *name), *label].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            ((*name).to_owned(), Arc::new(NamespaceFacts { labels, ..NamespaceFacts::default() }))
        };
        let namespaces: HashMap<_, _> = namespaces.iter().map(facts).collect();
        Program::new(policies.iter().map(|policy| Arc::clone(policy)), namespaces, Settings::default())
    }

    fn wanted(program: &Program) -> MutatingWebhookConfiguration {
        let endpoint = Endpoint::service("podpolicy-system", "podpolicy-webhook", 443).unwrap();
        let options = Options::new("127.0.0.1:8443".parse().unwrap(), endpoint, "podpolicy-system");
        configuration(program, &options, Some(b"bundle")).unwrap()
    }

    fn everywhere() -> Program {
        program(&[&policy("all", json!({}))], &[])
    }

    /// What AKS adds, and restores for ever.
    fn of_aks() -> Vec<LabelSelectorRequirement> {
        let values = |value: &str| Some(vec![value.to_owned()]);
        let requirement =
            |key: &str, operator: &str, values| LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values };
        vec![
            requirement("control-plane", "NotIn", values("true")),
            requirement("control-plane", "DoesNotExist", None),
            requirement("kubernetes.azure.com/managedby", "NotIn", values("aks")),
        ]
    }

    fn selected(webhook: &mut MutatingWebhook) -> &mut Vec<LabelSelectorRequirement> {
        webhook.namespace_selector.as_mut().unwrap().match_expressions.as_mut().unwrap()
    }

    /// An enforcer that adds what is missing, and says whether it had to write.
    fn enforce(live: &mut MutatingWebhookConfiguration) -> bool {
        let mut has_written = false;
        for webhook in live.webhooks.as_mut().unwrap() {
            for expression in of_aks() {
                let found = selected(webhook);
                if !found.contains(&expression) {
                    found.push(expression);
                    has_written = true;
                }
            }
        }
        has_written
    }

    /// What the operator writes; none if it leaves the configuration alone.
    fn write(live: &MutatingWebhookConfiguration, wanted: &MutatingWebhookConfiguration) -> Option<MutatingWebhookConfiguration> {
        if is_as_wanted(live, wanted) {
            return None;
        }
        let mut whole = wanted.clone();
        keep_additions(live, &mut whole);
        Some(whole)
    }

    #[test]
    fn an_enforcer_that_adds_expressions_and_the_operator_never_write_in_turns() {
        let shared = json!({ "namespaceSelector": { "matchLabels": { "tier": "web" } } });
        let before = wanted(&program(&[&policy("all", shared), &policy("shop/web", json!({}))], &[]));
        let mut live = before.clone();
        assert!(enforce(&mut live));
        assert_eq!(write(&live, &before), None, "additions are left alone");

        let after = wanted(&program(&[&policy("all", json!({})), &policy("shop/web", json!({}))], &[]));
        let mut live = write(&live, &after).expect("the operator wants something else");
        assert!(!enforce(&mut live), "the enforcer finds what it added");
        assert_eq!(write(&live, &after), None);
        let found = selected(&mut live.webhooks.as_mut().unwrap()[0]);
        assert_eq!(found.len(), 1 + of_aks().len(), "the condition on tier was an earlier program's: {found:?}");
    }

    #[test]
    fn additions_of_every_kind_are_kept() {
        let before = wanted(&everywhere());
        let mut live = before.clone();
        let webhook = &mut live.webhooks.as_mut().unwrap()[0];
        let labels = LabelSelector { match_labels: Some([("team".to_owned(), "shop".to_owned())].into()), ..LabelSelector::default() };
        webhook.namespace_selector.as_mut().unwrap().match_labels.clone_from(&labels.match_labels);
        webhook.object_selector = Some(labels);
        // A platform that names its namespaces, as the operator does.
        let mut by_name = selected(webhook)[0].clone();
        by_name.values = Some(vec!["gke-managed-cim".to_owned()]);
        selected(webhook).insert(0, by_name);
        let condition = MatchCondition { name: "no-jobs".to_owned(), expression: "true".to_owned() };
        webhook.match_conditions.as_mut().unwrap().push(condition);
        assert_eq!(write(&live, &before), None);

        let mut broken = live.clone();
        broken.webhooks.as_mut().unwrap()[0].failure_policy = None;
        let mut whole = write(&broken, &before).expect("an own field was changed");
        // Server-side apply leaves those of others alone.
        whole.webhooks.as_mut().unwrap()[0].match_conditions.clone_from(&live.webhooks.as_ref().unwrap()[0].match_conditions);
        let (mut kept, mut found) = (whole.webhooks.unwrap().remove(0), live.webhooks.unwrap().remove(0));
        selected(&mut kept).sort_by_key(mark);
        selected(&mut found).sort_by_key(mark);
        assert_eq!(kept, found);
    }

    #[test]
    fn own_expression_that_somebody_changes_is_no_addition() {
        let before = wanted(&everywhere());
        let mut live = before.clone();
        selected(&mut live.webhooks.as_mut().unwrap()[0])[0].values = Some(vec!["shop".to_owned()]);
        assert_eq!(write(&live, &before), Some(before.clone()));
        enforce(&mut live);
        let whole = write(&live, &before).expect("it was changed");
        assert_eq!(selected(&mut whole.webhooks.unwrap()[0]).len(), 1 + of_aks().len());
    }

    #[test]
    fn without_a_record_nothing_is_kept_and_whoever_adds_adds_once_more() {
        let before = wanted(&everywhere());
        let mut live = before.clone();
        enforce(&mut live);
        live.metadata.annotations = None;
        let mut live = write(&live, &before).expect("the record is missing");
        assert!(enforce(&mut live));
        assert_eq!(write(&live, &before), None);
    }

    #[test]
    fn record_stays_small_however_many_namespaces_there_are() {
        let policies: Vec<_> = (0..1000).map(|number| policy(&format!("namespace-{number}/web"), json!({}))).collect();
        let record = own_expressions(&wanted(&program(&policies.iter().collect::<Vec<_>>(), &[])).webhooks.unwrap());
        assert!(record.len() < 200, "{record}");
    }

    #[test]
    fn pods_that_additions_leave_out_are_named_by_policy() {
        let managed = ("kubernetes.azure.com/managedby", "aks");
        let namespaces = [("shop", ("tier", "web")), ("calico", managed), ("kube-system", ("control-plane", "true"))];
        let (all, web, calico) =
            (policy("all", json!({})), policy("shop/web", json!({})), policy("calico/typha", json!({ "labels": { "team": "net" } })));
        let aks_only = policy("aks-only", json!({ "namespaceSelector": { "matchLabels": { managed.0: managed.1 } } }));
        let audit = policy("calico/audit", json!({ "enforcement": "Audit" }));
        let program = program(&[&all, &web, &calico, &aks_only, &audit], &namespaces);
        let wanted = wanted(&program);
        assert_eq!(narrowed(&wanted, &wanted, &program), None);

        let mut live = wanted.clone();
        enforce(&mut live);
        let found = narrowed(&live, &wanted, &program).expect("calico is left out");
        let extents = [&all, &web, &calico, &aks_only, &audit].map(|policy| found.leaves_out(policy, &program));
        assert_eq!(extents, [LeftOut::Partly, LeftOut::Nothing, LeftOut::Wholly, LeftOut::Wholly, LeftOut::Nothing]);
        for words in ["podpolicy", "kubernetes.azure.com/managedby NotIn (aks)", "control-plane DoesNotExist", "in namespaceSelector"] {
            assert!(found.message.contains(words), "{words:?} in {}", found.message);
        }
    }

    #[test]
    fn additions_that_leave_out_nothing_are_not_worth_a_word() {
        let program = program(&[&policy("all", json!({}))], &[("shop", ("tier", "web"))]);
        let wanted = wanted(&program);
        let mut live = wanted.clone();
        enforce(&mut live);
        assert_eq!(narrowed(&live, &wanted, &program), None);
    }

    #[test]
    fn what_depends_on_the_pod_leaves_out_some() {
        let web = policy("shop/web", json!({}));
        let program = program(&[&web], &[("shop", ("tier", "web"))]);
        let wanted = wanted(&program);
        let condition = MatchCondition { name: "no-jobs".to_owned(), expression: "true".to_owned() };
        let selector = LabelSelector { match_labels: Some([("a".to_owned(), "b".to_owned())].into()), ..LabelSelector::default() };
        let mut by_condition = wanted.clone();
        by_condition.webhooks.as_mut().unwrap()[0].match_conditions.as_mut().unwrap().push(condition);
        let mut by_object = wanted.clone();
        by_object.webhooks.as_mut().unwrap()[0].object_selector = Some(selector);
        for (words, live) in [("\"no-jobs\" in matchConditions", by_condition), ("a=b in objectSelector", by_object)] {
            assert!(is_as_wanted(&live, &wanted));
            let found = narrowed(&live, &wanted, &program).expect(words);
            assert_eq!(found.leaves_out(&web, &program), LeftOut::Partly);
            assert!(found.message.contains(words), "{}", found.message);
        }
    }

    #[test]
    fn last_writer_is_the_latest_that_is_not_the_operator() {
        let entry = |manager: &str, time: &str| json!({ "manager": manager, "time": time, "operation": "Update" });
        let managed = [
            entry("kubectl-edit", "2026-01-01T00:00:00Z"),
            entry("admissionsenforcer", "2026-01-03T00:00:00Z"),
            entry("podpolicy", "2026-01-04T00:00:00Z"),
        ];
        let live = serde_json::from_value(json!({ "metadata": { "name": "podpolicy", "managedFields": managed } })).unwrap();
        assert_eq!(last_writer(&live, "podpolicy").as_deref(), Some("admissionsenforcer"));
    }
}
