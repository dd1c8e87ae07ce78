//! `kubectl explain` is the manual: it prints what the definitions say.

use anyhow::{Context as _, ensure};
use podpolicy_api::custom_resource_definitions;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, shared};
use serde_json::Value;

/// Fields of every depth, and how they are typed at the prompt.
const FIELDS: [&str; 8] = [
    "selector",
    "selector.matchExpressions.operator",
    "terminationGracePeriodSeconds",
    "containers.names",
    "containers.livenessProbe",
    "containers.livenessProbe.httpGet.port",
    "containers.lifecycle.preStop.sleep.seconds",
    "rollout.maxUnavailable",
];

#[tokio::test]
async fn explain_prints_the_descriptions_of_the_definitions() -> anyhow::Result<()> {
    let plane = documented().await?;
    for definition in custom_resource_definitions() {
        let definition = serde_json::to_value(definition)?;
        let names = &definition["spec"]["names"];
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        for field in FIELDS {
            let described = field.split('.').try_fold(spec, property);
            let described = described.and_then(|schema| schema["description"].as_str()).with_context(|| format!("no {field}"))?;
            for name in [&names["singular"], &names["plural"], &names["shortNames"][0]] {
                let path = format!("{}.spec.{field}", name.as_str().context("a name is missing")?);
                let printed = plane.kubectl_output(&["explain", &path])?;
                ensure!(words(&printed).contains(&words(described)), "kubectl explain {path} prints\n{printed}and not {described:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn explain_of_a_kind_says_what_it_is_for() -> anyhow::Result<()> {
    let plane = documented().await?;
    let printed = words(&plane.kubectl_output(&["explain", "podpolicy"])?);
    ensure!(printed.contains("says how the pods of its own namespace must be labelled"), "{printed}");
    let printed = words(&plane.kubectl_output(&["explain", "cpp"])?);
    ensure!(printed.contains("all namespaces that its namespaceSelector selects"), "{printed}");
    Ok(())
}

/// The control plane, once it publishes the documentation of both kinds: it does so a moment after it serves them.
async fn documented() -> anyhow::Result<&'static ControlPlane> {
    let plane = shared().await;
    for kind in ["podpolicy", "clusterpodpolicy"] {
        eventually("the documentation to be published", DEADLINE, async || {
            Ok(match plane.kubectl_output(&["explain", kind]) {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        })
        .await?;
    }
    Ok(plane)
}

/// A property of an object, or of the objects in a list.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let object = if schema["type"] == "array" { &schema["items"] } else { schema };
    object["properties"].get(name)
}

/// The words, without the line breaks that kubectl adds.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
