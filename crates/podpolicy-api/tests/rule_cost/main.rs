//! The estimated cost of the CEL rules in the definitions. An API server refuses a definition if its rules cost too much, or if they call
//! a function that it lacks. These tests follow Kubernetes 1.30, the oldest supported version, and need no API server.
//!
//! `cargo test -p podpolicy-api --test rule_cost`

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod estimate;
mod functions;
mod schema;

use std::{collections::BTreeMap, fs, path::Path};

use estimate::{Cost, estimate};
use podpolicy_api::custom_resource_definitions;
use schema::{Declared, Rule, rules};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The limit of one rule, on all values in an object together: `StaticEstimatedCostLimit`.
const RULE_LIMIT: u64 = 10_000_000;
/// The limit of all rules of a definition together: `StaticEstimatedCRDCostLimit`.
const DEFINITION_LIMIT: u64 = 100_000_000;
/// The part of the limit that one of our rules may use.
const RULE_PERCENT: u64 = 50;
/// The part of the limit that all our rules together may use.
const DEFINITION_PERCENT: u64 = 50;

const REMEDY: &str = "Bound the field, or the lists and maps around it (maxLength, maxItems, maxProperties). Where the field is \
                      int-or-string, API servers before 1.35 ignore maxLength: do not call matches(), contains() or string(), test \
                      single characters with charAt(), and compare types with `type(self) in [int]`.";

const OLD_PORT_RULE: &str = "type(self) == int ? int(self) >= 1 && int(self) <= 65535 : \
                             string(self).matches('^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$') && string(self).matches('[a-z]') && \
                             !string(self).contains('--')";

#[test]
fn kubernetes_1_30_has_room_for_the_cost_of_all_rules() {
    for (definition, rules) in definitions() {
        assert!(rules.len() >= 30, "{definition}: only {} rules found", rules.len());
        let costs = costs(&rules);
        for (what, cost) in &costs {
            let factor = factor(*cost, RULE_LIMIT);
            assert!(
                *cost <= RULE_LIMIT / 100 * RULE_PERCENT,
                "{definition}: {what}\n\
                 This costs {factor}x the limit of Kubernetes 1.30; keep it below {RULE_PERCENT} % of the limit.\n{REMEDY}",
            );
        }
        let all = total(&costs);
        let factor = factor(all, DEFINITION_LIMIT);
        assert!(
            all <= DEFINITION_LIMIT / 100 * DEFINITION_PERCENT,
            "{definition}: all rules together cost {factor}x the limit of Kubernetes 1.30; keep them below {DEFINITION_PERCENT} % of the \
             limit.\nThe most expensive one: {}\n{REMEDY}",
            costs.iter().max_by_key(|(_, cost)| cost).unwrap().0
        );
    }
}

#[test]
fn kubernetes_1_30_has_every_function_that_rules_call() {
    for (definition, rules) in definitions() {
        for rule in rules {
            for expression in [Some(&rule.expression), rule.message_expression.as_ref()].into_iter().flatten() {
                let unknown = unknown(expression, &rule.declared);
                assert!(
                    unknown.is_empty(),
                    "{definition}: {}: Kubernetes 1.30 lacks {unknown}, so it refuses the definition: write the rule without it; \
                     if 1.29 has the function, add it to tests/rule_cost/functions.rs: {expression}",
                    rule.path
                );
            }
        }
    }
}

/// Kubernetes 1.30 refused this rule of a port: "estimated rule cost exceeds budget by factor of 8.1x". It refused the definition, which
/// had eight of them and some cheap rules, with 6.5x.
#[test]
fn the_estimate_knows_what_kubernetes_1_30_refused() {
    let port = json!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 253,
        "x-kubernetes-validations": [{"rule": OLD_PORT_RULE}],
    });
    let fields: serde_json::Map<_, _> = ('a'..='h').map(|field| (field.to_string(), port.clone())).collect();
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "containers": {"type": "array", "maxItems": 16, "items": {"type": "object", "properties": {
            "probe": {"type": "object", "properties": fields},
        }}},
    }}}});
    let costs = costs(&rules(&schema));
    let (what, cost) = &costs[0];
    assert_eq!(what, &format!("spec.containers[].probe.a: {OLD_PORT_RULE}"));
    assert_eq!(factor(*cost, RULE_LIMIT), "8.05");
    assert_eq!(factor(total(&costs), DEFINITION_LIMIT), "6.44");
}

#[test]
fn estimates_of_rules_are_those_of_kubernetes_1_30() {
    let groups: Vec<Group> = recorded("rules");
    for Group { schema, rules } in groups {
        let declared = Declared::new(&schema).unwrap();
        for Recorded { cost: recorded, rule } in rules {
            assert_eq!(cost(&rule, &declared).total, recorded, "{rule}");
            assert_eq!(unknown(&rule, &declared), "", "{rule}");
        }
    }
}

#[test]
fn estimates_of_a_schema_are_those_of_kubernetes_1_30() {
    let RecordedSchema { schema, costs: recorded } = recorded("schema");
    let costs: BTreeMap<_, _> =
        rules(&schema).into_iter().map(|rule| (rule.path.clone(), rule.times * cost(&rule.expression, &rule.declared).total)).collect();
    assert_eq!(costs, recorded);
}

#[test]
fn a_function_of_later_versions_is_named() {
    let declared = Declared::new(&json!({"type": "string", "maxLength": 63})).unwrap();
    for (rule, function) in [
        ("self.reverse() == 'a'", "reverse"),
        ("ip(self).family() == 4", "family, ip"),
        ("format.dns1123Label().validate(self).hasValue()", "dns1123Label, validate"),
        ("math.greatest(self.size(), 3) > 3", "greatest"),
    ] {
        assert_eq!(unknown(rule, &declared), function, "{rule}");
    }
}

#[derive(Deserialize)]
struct Group {
    schema: Value,
    rules: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    cost: u64,
    rule: String,
}

#[derive(Deserialize)]
struct RecordedSchema {
    schema: Value,
    costs: BTreeMap<String, u64>,
}

fn recorded<T: DeserializeOwned>(what: &str) -> T {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/rule_cost/recorded-{what}.yaml"));
    serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap()
}

/// The rules of each definition, by its name and version.
fn definitions() -> BTreeMap<String, Vec<Rule>> {
    let mut definitions = BTreeMap::new();
    for definition in custom_resource_definitions() {
        for version in definition.spec.versions {
            let schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema.unwrap()).unwrap();
            definitions.insert(format!("{} {}", definition.spec.names.kind, version.name), rules(&schema));
        }
    }
    definitions
}

/// The cost of each rule on all values of an object, and of each message once, as the API server counts them.
fn costs(rules: &[Rule]) -> Vec<(String, u64)> {
    let mut costs = Vec::new();
    for rule in rules {
        let once = cost(&rule.expression, &rule.declared).total;
        costs.push((format!("{}: {}", rule.path, rule.expression), once.saturating_mul(rule.times)));
        if let Some(message) = &rule.message_expression {
            costs.push((format!("{}: messageExpression {message}", rule.path), cost(message, &rule.declared).total));
        }
    }
    costs
}

fn cost(expression: &str, declared: &Declared) -> Cost {
    estimate(expression, declared).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// The functions in the expression that Kubernetes 1.30 lacks, in one text.
fn unknown(expression: &str, declared: &Declared) -> String {
    cost(expression, declared).unknown.into_iter().collect::<Vec<_>>().join(", ")
}

fn total(costs: &[(String, u64)]) -> u64 {
    costs.iter().fold(0, |total, (_, cost)| total.saturating_add(*cost))
}

/// A cost divided by a limit, with two digits.
fn factor(cost: u64, limit: u64) -> String {
    let hundredths = cost / (limit / 100);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
