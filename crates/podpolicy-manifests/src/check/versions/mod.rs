//! Which fields and values of pods and workloads a version of Kubernetes lacks, or has switched off by default.
//!
//! The rules look at objects as they are in the file. They say nothing of fields that no version has: `unknown-field` does.

mod fields;
mod values;

use podpolicy_engine::kubernetes::Version;
use serde_json::Value as Json;

use super::{
    rule::{Rule, Severity},
    structure::Defect,
};
use crate::{Object, Step};

const UNSUPPORTED_FIELD: Rule = Rule {
    id: "unsupported-field",
    severity: Severity::Error,
    summary: "an object that makes pods has a field that this version of Kubernetes lacks, and another version has",
    why: "kubectl refuses the object; other clients have the field dropped without a word, and what it says is not done.",
    remedy: "Remove the field, or name the version of your cluster by --kubernetes-version.",
};

const OFF_BY_DEFAULT: Rule = Rule {
    id: "off-by-default",
    severity: Severity::Warning,
    summary: "an object that makes pods uses a feature that is off by default in this version of Kubernetes",
    why: "Unless the feature gate is on, the API server drops the field without a word, or refuses the object.",
    remedy: "Remove it, or turn the feature gate on; if it is on in your cluster, switch this rule off.",
};

pub(super) const RULES: [&Rule; 2] = [&UNSUPPORTED_FIELD, &OFF_BY_DEFAULT];

/// A field that some version lacks, or that leads to such a field.
struct Field {
    name: &'static str,
    /// The first version that has it, if it is newer than its type.
    since: Option<Version>,
    /// The last version that has it, if its type is still there.
    until: Option<Version>,
    gate: Option<&'static Gate>,
    /// The fields of the objects in it.
    holds: &'static [Self],
}

/// A feature gate, which switches a field or value on or off.
struct Gate {
    name: &'static str,
    /// The first version that has the feature.
    since: Version,
    /// The version from which the feature is on by default.
    on_since: Option<Version>,
}

/// What a version of Kubernetes makes of a field or value.
#[derive(Clone, Copy)]
enum Support {
    /// It comes with that version.
    NotYet(Version),
    /// It went after that version.
    NoLonger(Version),
    /// It is there, and later versions lack it.
    Former,
    /// It is there if its feature gate is on.
    Off(&'static Gate),
    Full,
}

/// What one version of Kubernetes makes of an object.
pub(super) struct Findings {
    pub(super) defects: Vec<Defect>,
    /// Fields of earlier versions, of which nothing else is to be said: the newest version does not know them.
    pub(super) former: Vec<Vec<Step>>,
}

const _: () = {
    let [oldest, newest] = fields::VERSIONS;
    assert!(oldest.minor == Version::OLDEST.minor && newest.minor == Version::NEWEST.minor, "run `just field-versions`");
};

/// What a version makes of an object of a kind that makes pods.
pub(super) fn findings(object: &Object<'_>, version: Version) -> Findings {
    let mut found = Findings { defects: Vec::new(), former: Vec::new() };
    let fields = fields::KINDS.into_iter().find(|(kind, _)| *kind == object.kind).map_or(&[][..], |(_, fields)| fields);
    walk(fields, object.value, version, &mut Vec::new(), &mut found);
    for values::Use { gate, path, what } in values::uses(object) {
        let is_in = |defect: &Defect| defect.rule == &UNSUPPORTED_FIELD && path.starts_with(&defect.path);
        if !found.defects.iter().any(is_in) {
            found.defects.extend(defect(gate.support(version), version, path, what));
        }
    }
    found
}

fn walk(fields: &'static [Field], value: &Json, version: Version, path: &mut Vec<Step>, found: &mut Findings) {
    if let Json::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            path.push(Step::Index(index));
            walk(fields, item, version, path, found);
            path.pop();
        }
        return;
    }
    // Nulls say nothing.
    for (key, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let Ok(at) = fields.binary_search_by_key(&key.as_str(), |field| field.name) else { continue };
        let field = &fields[at];
        path.push(Step::Key(key.clone()));
        let support = field.support(version);
        if let Support::NoLonger(_) | Support::Former = support {
            found.former.push(path.clone());
        }
        found.defects.extend(defect(support, version, path.clone(), &named(path)));
        if let Support::Full | Support::Off(_) = support {
            walk(field.holds, value, version, path, found);
        }
        path.pop();
    }
}

/// The field as `kubectl explain` calls it, from the object that has it on: `httpGet.protocol`.
fn named(path: &[Step]) -> String {
    let keys = path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    let mut last: Vec<_> = keys.rev().take(2).collect();
    last.reverse();
    last.join(".")
}

fn defect(support: Support, version: Version, path: Vec<Step>, what: &str) -> Option<Defect> {
    let check = |version| format!("remove it, or check with --kubernetes-version {version}");
    let (rule, message) = match support {
        Support::Full | Support::Former => return None,
        Support::NotYet(since) => {
            (&UNSUPPORTED_FIELD, format!("{what} needs Kubernetes {since}, and {version} does not know it; {}", check(since)))
        }
        Support::NoLonger(until) => {
            (&UNSUPPORTED_FIELD, format!("Kubernetes {until} is the last that knows {what}, and {version} does not; {}", check(until)))
        }
        Support::Off(Gate { name, on_since, .. }) => {
            let default = match on_since {
                Some(on) => format!("by default it is on from {on}"),
                None => format!("by default it is off in all versions up to {}", Version::NEWEST),
            };
            let message = format!(
                "Kubernetes {version} drops or refuses {what} unless the feature gate {name} is on, and {default}; remove it, or turn the feature gate on"
            );
            (&OFF_BY_DEFAULT, message)
        }
    };
    Some(Defect::new(rule, path, message))
}

impl Field {
    const fn new(name: &'static str) -> Self {
        Self { name, since: None, until: None, gate: None, holds: &[] }
    }

    const fn since(self, minor: u16) -> Self {
        Self { since: Some(Version::new(minor)), ..self }
    }

    const fn until(self, minor: u16) -> Self {
        Self { until: Some(Version::new(minor)), ..self }
    }

    const fn gate(self, gate: &'static Gate) -> Self {
        Self { gate: Some(gate), ..self }
    }

    const fn holds(self, fields: &'static [Self]) -> Self {
        Self { holds: fields, ..self }
    }

    fn support(&self, version: Version) -> Support {
        match (self.since, self.until, self.gate) {
            (Some(since), ..) if version < since => Support::NotYet(since),
            (_, Some(until), _) if version > until => Support::NoLonger(until),
            (_, Some(_), _) => Support::Former,
            (.., Some(gate)) => gate.support(version),
            (.., None) => Support::Full,
        }
    }
}

impl Gate {
    const fn new(name: &'static str, since: u16, on_since: Option<u16>) -> Self {
        let on_since = match on_since {
            Some(minor) => Some(Version::new(minor)),
            None => None,
        };
        Self { name, since: Version::new(since), on_since }
    }

    fn support(&'static self, version: Version) -> Support {
        if version < self.since {
            Support::NotYet(self.since)
        } else if self.on_since.is_some_and(|on| version >= on) {
            Support::Full
        } else {
            Support::Off(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{check::structure, objects};

    /// What each version from 1.30 on makes of a pod's spec: `-` lacks something, `o` has it off by default, `+` has it.
    fn support(kind: &str, api_version: &str, object: &Json) -> String {
        let mut value = object.clone();
        value["apiVersion"] = api_version.into();
        value["kind"] = kind.into();
        let [object] = objects(&value).try_into().expect("one object");
        (Version::OLDEST.minor..=Version::NEWEST.minor)
            .map(|minor| {
                let defects = findings(&object, Version::new(minor)).defects;
                let has = |rule: &Rule| defects.iter().any(|defect| defect.rule == rule);
                match (has(&UNSUPPORTED_FIELD), has(&OFF_BY_DEFAULT)) {
                    (true, _) => '-',
                    (false, true) => 'o',
                    (false, false) => '+',
                }
            })
            .collect()
    }

    #[test]
    fn each_version_has_its_fields_and_defaults() {
        let container = |container: Json| json!({ "containers": [container] });
        for (spec, wanted) in [
            (container(json!({ "lifecycle": { "stopSignal": "SIGQUIT" } })), "---ooooo"),
            (container(json!({ "readinessProbe": { "httpGet": { "port": 80, "protocol": "HTTP2" } } })), "-------o"),
            (container(json!({ "livenessProbe": { "grpc": { "port": 80, "mode": "TLS" } } })), "-------o"),
            (container(json!({ "restartPolicyRules": [] })), "----o+++"),
            (container(json!({ "restartPolicy": "Never" })), "----o+++"),
            (container(json!({ "restartPolicyRules": [{ "action": "RestartAllContainers" }] })), "-----o++"),
            (json!({ "initContainers": [{ "restartPolicy": "Never" }] }), "----o+++"),
            (json!({ "initContainers": [{ "restartPolicy": "Always" }] }), "++++++++"),
            (container(json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } })), "++++++++"),
            (container(json!({ "lifecycle": { "postStart": { "sleep": { "seconds": 0 } } } })), "--o+++++"),
            (container(json!({ "resizePolicy": [] })), "ooo+++++"),
            (container(json!({ "securityContext": { "procMount": "Unmasked" } })), "ooo+++++"),
            (container(json!({ "volumeMounts": [{ "recursiveReadOnly": "Enabled" }] })), "o+++++++"),
            (container(json!({ "env": [{ "valueFrom": { "fileKeyRef": {} } }] })), "----o+++"),
            (json!({ "resources": {} }), "--oo++++"),
            (json!({ "hostUsers": false }), "ooo+++++"),
            (json!({ "hostUsers": true }), "++++++++"),
            (json!({ "hostnameOverride": "a" }), "----o+++"),
            (json!({ "resourceClaims": [{ "source": {} }] }), "o-------"),
            (json!({ "resourceClaims": [{ "resourceClaimName": "a" }] }), "-ooo++++"),
            (json!({ "tolerations": [{ "operator": "Gt" }] }), "-----ooo"),
            (json!({ "volumes": [{ "image": {} }] }), "-oooo+++"),
            (json!({ "volumes": [{ "projected": { "sources": [{ "podCertificate": {} }] } }] }), "----ooo+"),
            (json!({ "workloadRef": {} }), "-----+--"),
        ] {
            assert_eq!(support("Pod", "v1", &json!({ "spec": spec })), wanted, "{spec}");
            let template = json!({ "spec": { "template": { "spec": spec } } });
            assert_eq!(support("Deployment", "apps/v1", &template), wanted, "{template}");
        }
        for (spec, wanted) in [
            (json!({ "updateStrategy": { "type": "Recreate" } }), "-------o"),
            (json!({ "updateStrategy": { "rollingUpdate": { "maxUnavailable": 2 } } }), "ooooooo+"),
            (json!({ "volumeClaimTemplates": [{ "spec": { "volumeAttributesClassName": "fast" } }] }), "oooo++++"),
        ] {
            assert_eq!(support("StatefulSet", "apps/v1", &json!({ "spec": spec })), wanted, "{spec}");
        }
        for (spec, wanted) in [(json!({ "managedBy": "a" }), "oo++++++"), (json!({ "successPolicy": {} }), "o+++++++")] {
            assert_eq!(support("Job", "batch/v1", &json!({ "spec": spec })), wanted, "{spec}");
            let template = json!({ "spec": { "jobTemplate": { "spec": spec } } });
            assert_eq!(support("CronJob", "batch/v1", &template), wanted, "{template}");
        }
    }

    #[test]
    fn fields_of_the_newest_version_are_those_of_its_types() {
        let mut looked_at = 0;
        for (api_version, kind) in KINDS {
            let (_, fields) = fields::KINDS.into_iter().find(|(known, _)| *known == kind).expect("the table has the kind");
            let top = |value: Json| {
                let mut object = value;
                object["apiVersion"] = api_version.into();
                object["kind"] = kind.into();
                object
            };
            looked_at += are_in_types(fields, &top);
        }
        assert!(looked_at > 1000, "{looked_at}");
    }

    const KINDS: [(&str, &str); 9] = [
        ("v1", "Pod"),
        ("v1", "PodTemplate"),
        ("v1", "ReplicationController"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "ReplicaSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
    ];

    /// Looks at fields of the object that `around` puts a value into, and returns how many there are.
    fn are_in_types(fields: &'static [Field], around: &dyn Fn(Json) -> Json) -> usize {
        assert!(fields.is_sorted_by_key(|field| field.name), "they are searched by their order");
        let mut number = 0;
        for field in fields.iter().filter(|field| field.until.is_none()) {
            // The other field shows that the types are asked.
            let with = |value: Json| around(json!({ field.name: value, "nobodyKnowsThis": null }));
            assert_eq!(unknown_fields(&with(Json::Null)), 1, "{}", with(Json::Null));
            if !field.holds.is_empty() {
                let is_object = unknown_fields(&with(json!({ "nobodyKnowsThis": null }))) == 2;
                let around_it = |value: Json| around(json!({ field.name: if is_object { value } else { json!([value]) } }));
                number += are_in_types(field.holds, &around_it);
            }
            number += 1;
        }
        number
    }

    fn unknown_fields(value: &Json) -> usize {
        let [object] = objects(value).try_into().expect("one object");
        let defects = structure::defects(&object, Version::NEWEST);
        defects.iter().filter(|defect| defect.rule.id == "unknown-field").count()
    }
}
