//! What must be true of every text that policies are applied to. The corpus, and the fuzz target, try it.

#![allow(dead_code, reason = "each test uses a part")]

use podpolicy_engine::{Pod, Program};
use podpolicy_manifests::{Manifest, Rendered, Step, objects, render};
use serde::Deserialize as _;
use serde_json::{Value as Json, json};

/// The text after rendering.
pub fn after(manifest: &Manifest, rendered: &Rendered) -> String {
    rendered.text(manifest.text()).unwrap_or_else(|| manifest.text().to_owned())
}

/// What comes out means what the engine decided for what came in, and nothing else differs. For texts without problems. How many settings that
/// were is returned.
pub fn means_what_was_decided(manifest: &Manifest, program: &Program, namespace: &str, text: &str) -> usize {
    let (before, after) = (values(manifest), values(&Manifest::parse(text.to_owned()).expect("what comes out can be read")));
    assert_eq!(before.len(), after.len(), "documents");
    let mut written = 0;
    for (before, after) in before.iter().zip(&after) {
        let (mut rest_before, mut rest_after) = (before.clone(), after.clone());
        for (old, new) in objects(before).iter().zip(&objects(after)) {
            let Some(place) = old.template() else { continue };
            let pod = |object: &Json| {
                let template = place.iter().fold(object, |value, key| &value[key]);
                let metadata = template["metadata"].as_object().cloned().unwrap_or_default();
                let mut pod = json!({ "metadata": metadata, "spec": template["spec"] });
                if template["status"].is_object() {
                    pod["status"] = template["status"].clone();
                }
                let mut pod = Pod::deserialize(pod).expect("a pod");
                old.namespace.unwrap_or(namespace).clone_into(&mut pod.namespace);
                pod
            };
            let mut wanted = pod(old.value);
            let creation = program.create(&wanted);
            written += creation.settings.len();
            creation.apply(&mut wanted);
            wanted.annotations.retain(|key, _| key != podpolicy_api::APPLIED_ANNOTATION);
            let got = pod(new.value);
            assert_eq!((&got.labels, &got.annotations), (&wanted.labels, &wanted.annotations), "{}", old.name);
            assert_eq!(settings(&got), settings(&wanted), "{}", old.name);
            for (rest, path) in [(&mut rest_before, &old.path), (&mut rest_after, &new.path)] {
                let object = path.iter().fold(rest, |value, step| match step {
                    Step::Key(key) => &mut value[key],
                    Step::Index(index) => &mut value[*index],
                });
                strip(place.iter().fold(object, |value, key| &mut value[key]));
            }
        }
        assert_eq!(rest_before, rest_after, "something else changed");
    }
    written
}

/// The values of the documents.
fn values(manifest: &Manifest) -> Vec<Json> {
    manifest.documents().iter().map(|document| manifest.value(document).expect("a value")).collect()
}

/// Rendered again, nothing changes.
pub fn is_done(program: &Program, namespace: &str, text: &str) {
    let manifest = Manifest::parse(text.to_owned()).expect("what comes out can be read");
    let again = render(&manifest, program, namespace);
    assert!(again.text(text).is_none() && again.diff(text, 3).is_empty(), "{}", again.diff(text, 3));
}

/// The diff makes the one text of the other, and touches no other line.
pub fn diff_tells_it_all(before: &str, diff: &str, after: &str) {
    assert_eq!(patched(before, diff), after, "{diff}");
}

/// Lines of one kind of ending have no other afterwards.
pub fn line_endings_stay(before: &str, after: &str) {
    let windows = |text: &str| text.matches("\r\n").count();
    let (all, others) = (before.matches('\n').count(), before.matches('\r').count());
    if all > 0 && all == windows(before) {
        assert_eq!(windows(after), after.matches('\n').count(), "{after:?}");
    } else if others == 0 {
        assert!(!after.contains('\r'), "{after:?}");
    }
}

/// The settings of a pod as JSON, without what Kubernetes takes where nothing is said.
fn settings(pod: &Pod) -> Json {
    let containers = pod.template.containers.iter().map(|container| {
        json!({
            "name": container.name,
            "probes": [&container.liveness, &container.readiness, &container.startup],
            "hooks": [&container.post_start, &container.pre_stop],
            "stopSignal": container.stop_signal,
        })
    });
    let mut settings = json!({ "grace": pod.template.grace_period, "containers": containers.collect::<Vec<_>>() });
    without_defaults(&mut settings);
    settings
}

fn without_defaults(value: &mut Json) {
    match value {
        Json::Object(map) => {
            map.retain(|key, value| match key.as_str() {
                "initialDelaySeconds" => *value != 0,
                "timeoutSeconds" | "successThreshold" => *value != 1,
                "periodSeconds" => *value != 10,
                "failureThreshold" => *value != 3,
                "scheme" => *value != "HTTP",
                "protocol" => *value != "HTTP1",
                "mode" => *value != "Plaintext",
                "service" | "host" => *value != "",
                _ => true,
            } && !value.is_null());
            map.values_mut().for_each(without_defaults);
        }
        Json::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

/// Takes what policies can write out of a pod template, down to empty mappings.
fn strip(template: &mut Json) {
    let take = |value: &mut Json, keys: &[&str]| {
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, value| !keys.contains(&key.as_str()) && !value.is_null());
        }
    };
    take(&mut template["metadata"], &["labels", "annotations"]);
    if template["metadata"].as_object().is_none_or(serde_json::Map::is_empty) {
        take(template, &["metadata"]);
    }
    take(&mut template["spec"], &["terminationGracePeriodSeconds"]);
    for list in ["initContainers", "containers"] {
        for container in template["spec"].get_mut(list).and_then(Json::as_array_mut).into_iter().flatten() {
            take(&mut container["lifecycle"], &["preStop", "postStart", "stopSignal"]);
            if container["lifecycle"].as_object().is_none_or(serde_json::Map::is_empty) {
                take(container, &["lifecycle"]);
            }
            take(container, &["livenessProbe", "readinessProbe", "startupProbe"]);
        }
    }
}

/// The text with a unified diff applied; every line of it must be where the diff says.
fn patched(text: &str, diff: &str) -> String {
    let old: Vec<_> = text.split_inclusive('\n').collect();
    let mut new = String::new();
    let mut at = 0;
    let mut lines = diff.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let (mark, mut content) = line.split_at(1);
        if lines.peek().is_some_and(|next| next.starts_with('\\')) {
            content = content.strip_suffix('\n').unwrap();
            lines.next();
        }
        match mark {
            "@" => {
                let from = line.split(['-', ',', ' ']).nth(2).unwrap();
                let first: usize = from.parse().unwrap();
                old[at..first - 1].iter().for_each(|line| new.push_str(line));
                at = first - 1;
            }
            "+" => new.push_str(content),
            " " | "-" => {
                assert_eq!(old[at], content, "{diff}");
                at += 1;
                if mark == " " {
                    new.push_str(content);
                }
            }
            _ => panic!("{line}"),
        }
    }
    old[at..].iter().for_each(|line| new.push_str(line));
    new
}
