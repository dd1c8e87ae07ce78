//! The MutatingWebhookConfiguration: which pods API servers ask about, and where. Pure.
//!
//! Never asks about more namespaces than policies act in, and never lets a pod of Kubernetes' own or the operator's own namespaces wait
//! for the webhook when it is down.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use podpolicy_engine::{KUBERNETES_NAMESPACES, PolicyKind, Program};

use super::{
    Options,
    options::{Endpoint, FailurePolicy, Target},
    others::{OWN_EXPRESSIONS, own_expressions, without_additions},
    server::PATH,
};
use crate::{
    cel::OWNER_LABEL,
    namespaces::{by_name, in_common, selector},
};

/// Past so many namespaces a list of names would cost more than asking about all.
const MOST_NAMES: usize = 2000;

/// The names of the webhooks end with this.
const DOMAIN: &str = ".webhook.podpolicy.dev";
const BROAD: &str = "pods";
const NAMED: &str = "namespaced-pods";
const PROTECTED: &str = "protected-pods";

/// Without this label AKS adds expressions of its own to every namespaceSelector, and restores them for ever.
const NO_ENFORCER: (&str, &str) = ("admissions.enforcer/disabled", "true");

/// How long an API server waits for an answer, in seconds.
const TIMEOUT: i32 = 5;

/// The configuration for a program; none if no policy gives a pod anything. Everything is spelled out, defaults too, so that it can be
/// compared with what an API server has.
pub(super) fn configuration(program: &Program, options: &Options, bundle: Option<&[u8]>) -> Option<MutatingWebhookConfiguration> {
    let webhooks: Vec<_> = scopes(program, &options.own_namespace)
        .into_iter()
        .map(|Scope { name, namespaces, is_protected }| {
            let failure_policy = if is_protected { FailurePolicy::Ignore } else { options.failure_policy };
            webhook(name, namespaces, failure_policy, options, bundle)
        })
        .collect();
    if webhooks.is_empty() {
        return None;
    }
    let metadata = ObjectMeta {
        name: Some(options.name.clone()),
        labels: Some([OWNER_LABEL, NO_ENFORCER].map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        annotations: Some([(OWN_EXPRESSIONS.to_owned(), own_expressions(&webhooks))].into()),
        ..ObjectMeta::default()
    };
    Some(MutatingWebhookConfiguration { metadata, webhooks: Some(webhooks) })
}

/// Whether what an API server has is as wanted. What others added is no difference, but nothing of ours may be missing or left over.
pub(super) fn is_as_wanted(live: &MutatingWebhookConfiguration, wanted: &MutatingWebhookConfiguration) -> bool {
    let own = |configuration: &MutatingWebhookConfiguration| {
        let webhooks = configuration.webhooks.iter().flatten().filter(|webhook| webhook.name.ends_with(DOMAIN));
        webhooks.map(|webhook| (webhook.name.clone(), webhook.clone())).collect::<BTreeMap<_, _>>()
    };
    let (mut found, wanted_webhooks) = (own(live), own(wanted));
    for (name, webhook) in &mut found {
        if let Some(wanted) = wanted_webhooks.get(name) {
            *webhook = without_additions(webhook, wanted);
        }
    }
    has_all(live.metadata.labels.as_ref(), wanted.metadata.labels.as_ref())
        && has_all(live.metadata.annotations.as_ref(), wanted.metadata.annotations.as_ref())
        && found == wanted_webhooks
}

fn has_all(live: Option<&BTreeMap<String, String>>, wanted: Option<&BTreeMap<String, String>>) -> bool {
    wanted.into_iter().flatten().all(|(key, value)| live.is_some_and(|live| live.get(key) == Some(value)))
}

/// Whether the configuration is one that the operator made.
pub(super) fn is_own(live: &MutatingWebhookConfiguration) -> bool {
    live.metadata.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL.0)).is_some_and(|owner| owner == OWNER_LABEL.1)
}

/// The namespaces that one webhook asks about.
struct Scope {
    name: &'static str,
    namespaces: LabelSelector,
    is_protected: bool,
}

/// No two scopes have a namespace in common: nobody is asked twice.
fn scopes(program: &Program, own_namespace: &str) -> Vec<Scope> {
    let enforcing: Vec<_> = program.enforcing().collect();
    let is_cluster = |kind| match kind {
        PolicyKind::ClusterPodPolicy => true,
        PolicyKind::PodPolicy => false,
    };
    let (cluster, namespaced): (Vec<_>, Vec<_>) = enforcing.into_iter().partition(|policy| is_cluster(policy.id().kind));
    let excluded = program.excluded_namespaces();
    // Pods there are never held up, whatever the failure policy.
    let protected: BTreeSet<_> =
        excluded.iter().map(String::as_str).chain(KUBERNETES_NAMESPACES).chain([own_namespace]).filter(|name| !name.is_empty()).collect();
    let with_policies: BTreeSet<_> = namespaced.iter().map(|policy| policy.id().namespace.as_str()).collect();

    let named: BTreeSet<_> = with_policies.difference(&protected).copied().collect();
    let conditions = (!cluster.is_empty()).then(|| in_common(cluster.iter().map(|policy| policy.namespace_selector())));
    let (broad, apart) = match conditions {
        // Namespaces with PodPolicies are asked about also where the ClusterPodPolicies do not act.
        Some(shared) if !shared.is_empty() && named.len() <= MOST_NAMES => (Some(shared), named),
        Some(_) => (Some(Vec::new()), BTreeSet::new()),
        None if named.len() > MOST_NAMES => (Some(Vec::new()), BTreeSet::new()),
        None => (None, named),
    };
    let is_acted_in = |name: &&str| with_policies.contains(name) || (!cluster.is_empty() && !excluded.contains(*name));
    let acted_in: BTreeSet<_> = protected.iter().copied().filter(is_acted_in).collect();

    let mut scopes = Vec::new();
    if let Some(conditions) = broad {
        let outside = by_name("NotIn", protected.union(&apart).copied());
        scopes.push(Scope { name: BROAD, namespaces: selector([vec![outside], conditions].concat()), is_protected: false });
    }
    for (name, names, is_protected) in [(NAMED, apart, false), (PROTECTED, acted_in, true)] {
        if !names.is_empty() {
            scopes.push(Scope { name, namespaces: selector(vec![by_name("In", names)]), is_protected });
        }
    }
    scopes
}

fn webhook(
    name: &str,
    namespaces: LabelSelector,
    failure_policy: FailurePolicy,
    options: &Options,
    bundle: Option<&[u8]>,
) -> MutatingWebhook {
    let rule = RuleWithOperations {
        api_groups: Some(vec![String::new()]),
        api_versions: Some(vec!["v1".to_owned()]),
        operations: Some(vec!["CREATE".to_owned()]),
        resources: Some(vec!["pods".to_owned()]),
        scope: Some("Namespaced".to_owned()),
    };
    let no_mirror = MatchCondition {
        name: "no-mirror-pods".to_owned(),
        expression: "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)".to_owned(),
    };
    MutatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(&options.endpoint, bundle),
        failure_policy: Some(failure_policy.to_string()),
        match_conditions: Some(vec![no_mirror]),
        match_policy: Some("Equivalent".to_owned()),
        name: format!("{name}{DOMAIN}"),
        namespace_selector: Some(namespaces),
        object_selector: Some(LabelSelector::default()),
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(vec![rule]),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT),
    }
}

fn client_config(endpoint: &Endpoint, bundle: Option<&[u8]>) -> WebhookClientConfig {
    let (service, url) = match &endpoint.target {
        Target::Service { namespace, name, port } => {
            let (namespace, name) = (namespace.clone(), name.clone());
            (Some(ServiceReference { namespace, name, port: Some(i32::from(*port)), path: Some(PATH.to_owned()) }), None)
        }
        Target::Url(url) => (None, Some(url.clone())),
    };
    WebhookClientConfig { ca_bundle: bundle.map(|bundle| ByteString(bundle.to_vec())), service, url }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use podpolicy_engine::{NAME_LABEL, Policy, Settings};
    use serde_json::{Value as Json, json};

    use super::*;

    /// Policies as `namespace/name`, or `name` for a ClusterPodPolicy, with what their specs say beside the selector.
    fn program(policies: &[(&str, Json)]) -> Program {
        let parse = |(name, rest): &(&str, Json)| {
            let mut spec = json!({ "selector": {}, "labels": { "team": "shop" } });
            spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            let policy = match name.split_once('/') {
                Some((namespace, name)) => {
                    let policy = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": spec });
                    Policy::from_namespaced(&serde_json::from_value(policy).unwrap())
                }
                None => Policy::from_cluster(&serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()),
            };
            Arc::new(policy)
        };
        let excluded_namespaces = KUBERNETES_NAMESPACES.map(str::to_owned).into_iter().chain(["podpolicy-system".to_owned()]).collect();
        let settings = Settings { excluded_namespaces, ..Settings::default() };
        Program::new(policies.iter().map(parse), HashMap::new(), settings)
    }

    fn options() -> Options {
        let mut options = Options::new(
            "127.0.0.1:8443".parse().unwrap(),
            Endpoint::service("podpolicy-system", "podpolicy-webhook", 443).unwrap(),
            "podpolicy-system",
        );
        options.failure_policy = FailurePolicy::Fail;
        options
    }

    /// Name, failure policy and namespaces of each webhook, as text.
    fn seen(policies: &[(&str, Json)]) -> Vec<String> {
        let Some(configuration) = configuration(&program(policies), &options(), None) else { return Vec::new() };
        let webhooks = configuration.webhooks.unwrap();
        let text = |webhook: &MutatingWebhook| {
            let expressions = webhook.namespace_selector.as_ref().unwrap().match_expressions.as_ref().unwrap();
            let expressions = expressions.iter().map(|requirement| {
                let key = if requirement.key == NAME_LABEL { "name" } else { &requirement.key };
                format!("{key} {} {}", requirement.operator, requirement.values.as_deref().unwrap_or_default().join(" "))
            });
            let name = webhook.name.trim_end_matches(DOMAIN);
            format!("{name} {}: {}", webhook.failure_policy.as_deref().unwrap(), expressions.collect::<Vec<_>>().join(", "))
        };
        webhooks.iter().map(text).collect()
    }

    const OUTSIDE: &str = "pods Fail: name NotIn kube-node-lease kube-public kube-system podpolicy-system";

    #[test]
    fn no_policy_in_force_needs_no_configuration() {
        let audit = json!({ "enforcement": "Audit" });
        let broken = json!({ "annotations": { "a": "x".repeat(300_000) } });
        assert_eq!(seen(&[]), Vec::<String>::new());
        assert_eq!(seen(&[("shop/web", audit.clone()), ("all", audit), ("all", broken)]), Vec::<String>::new());
    }

    #[test]
    fn pod_policies_are_asked_about_in_their_namespaces_only() {
        let none = json!({});
        assert_eq!(
            seen(&[("shop/web", none.clone()), ("bank/a", none.clone()), ("bank/b", none)]),
            ["namespaced-pods Fail: name In bank shop"]
        );
    }

    #[test]
    fn protected_namespaces_are_asked_about_apart_and_never_held_up() {
        let none = json!({});
        let policies = [("kube-system/dns", none.clone()), ("podpolicy-system/own", none.clone())];
        assert_eq!(seen(&policies), ["protected-pods Ignore: name In kube-system podpolicy-system"]);
        let policies = [("kube-system/dns", none.clone()), ("all", none.clone()), ("shop/web", none)];
        assert_eq!(seen(&policies), [OUTSIDE, "protected-pods Ignore: name In kube-system"]);
    }

    #[test]
    fn kubernetes_own_namespaces_are_never_held_up_also_where_cluster_policies_act_there() {
        let policy = json!({ "metadata": { "name": "all" }, "spec": { "selector": {}, "labels": { "team": "shop" } } });
        let policy = Arc::new(Policy::from_cluster(&serde_json::from_value(policy).unwrap()));
        let program = Program::new([policy], HashMap::new(), Settings::default());
        let webhooks = configuration(&program, &options(), None).unwrap().webhooks.unwrap();
        let failure_policies: Vec<_> = webhooks.iter().map(|webhook| webhook.failure_policy.as_deref().unwrap()).collect();
        assert_eq!(failure_policies, ["Fail", "Ignore"]);
        let values = |index: usize| {
            webhooks[index].namespace_selector.as_ref().unwrap().match_expressions.as_ref().unwrap()[0].values.clone().unwrap()
        };
        assert_eq!(values(0), values(1));
        assert_eq!(values(1), ["kube-node-lease", "kube-public", "kube-system", "podpolicy-system"]);
    }

    #[test]
    fn condition_that_all_cluster_policies_share_is_used() {
        let shared = json!({ "namespaceSelector": { "matchLabels": { "tier": "web" } } });
        let other = json!({ "namespaceSelector": { "matchExpressions": [{ "key": "tier", "operator": "Exists" }] } });
        assert_eq!(seen(&[("a", shared.clone()), ("b", shared.clone())]), [format!("{OUTSIDE}, tier In web")]);
        assert_eq!(seen(&[("a", shared.clone()), ("b", other)]), [OUTSIDE]);
        assert_eq!(seen(&[("a", shared.clone()), ("b", json!({}))]), [OUTSIDE]);
        let apart = seen(&[("a", shared), ("shop/web", json!({}))]);
        assert_eq!(apart, [&format!("{OUTSIDE} shop, tier In web"), "namespaced-pods Fail: name In shop"]);
    }

    #[test]
    fn very_many_namespaces_are_not_listed_by_name() {
        let names: Vec<_> = (0..=MOST_NAMES).map(|number| format!("n{number}/web")).collect();
        let policies: Vec<_> = names.iter().map(|name| (name.as_str(), json!({}))).collect();
        assert_eq!(seen(&policies), [OUTSIDE]);
        let shared = ("a", json!({ "namespaceSelector": { "matchLabels": { "tier": "web" } } }));
        assert_eq!(seen(&policies.into_iter().chain([shared]).collect::<Vec<_>>()), [OUTSIDE]);
    }

    #[test]
    fn what_api_servers_have_is_compared_as_a_whole() {
        let program = program(&[("shop/web", json!({}))]);
        let wanted = configuration(&program, &options(), Some(b"bundle")).unwrap();
        assert!(is_as_wanted(&wanted, &wanted));
        let changes: [fn(&mut MutatingWebhookConfiguration); 10] = [
            |live| live.metadata.labels = None,
            |live| drop(live.metadata.labels.as_mut().unwrap().remove("admissions.enforcer/disabled")),
            |live| live.metadata.annotations = None,
            |live| live.webhooks.as_mut().unwrap()[0].namespace_selector = None,
            |live| live.webhooks.as_mut().unwrap()[0].match_conditions = None,
            |live| live.webhooks.as_mut().unwrap()[0].rules = None,
            |live| live.webhooks = None,
            |live| live.webhooks.as_mut().unwrap()[0].client_config.ca_bundle = None,
            |live| live.webhooks.as_mut().unwrap()[0].failure_policy = Some("Ignore".to_owned()),
            |live| {
                let mut other = live.webhooks.as_ref().unwrap()[0].clone();
                other.name = format!("old{DOMAIN}");
                live.webhooks.as_mut().unwrap().push(other);
            },
        ];
        for change in changes {
            let mut live = wanted.clone();
            change(&mut live);
            assert!(!is_as_wanted(&live, &wanted), "{live:?}");
        }
        let mut live = wanted.clone();
        live.webhooks.as_mut().unwrap().push(MutatingWebhook { name: "pods.example.com".to_owned(), ..MutatingWebhook::default() });
        live.metadata.labels.as_mut().unwrap().insert("team".to_owned(), "platform".to_owned());
        live.metadata.annotations.as_mut().unwrap().insert("team".to_owned(), "platform".to_owned());
        assert!(is_as_wanted(&live, &wanted), "what others added is theirs");
        let without = configuration(&program, &options(), None).unwrap();
        assert!(is_as_wanted(&wanted, &without), "where the operator gives no bundle it is somebody else's");
    }
}
