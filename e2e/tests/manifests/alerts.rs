//! Alerts and the dashboard speak of metrics that there are, and the runbook of each alert.

use std::collections::BTreeSet;

use anyhow::Context as _;
use podpolicy_controller::Metrics;
use serde_json::Value;

use crate::render::{Overlay, root};

#[test]
fn alerts_use_metrics_that_exist_and_say_what_happens() -> anyhow::Result<()> {
    let existing = metrics()?;
    for rule in &rules()? {
        let used = metrics_in(rule["expr"].as_str().context("no expression")?);
        assert!(!used.is_empty(), "{rule:#}");
        assert!(used.is_subset(&existing), "{used:?} are not all among {existing:?}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()), "{rule:#}");
        }
        assert!(rule["labels"]["severity"].is_string() && rule["for"].is_string(), "{rule:#}");
    }
    Ok(())
}

#[test]
fn runbook_has_a_section_for_each_alert_and_no_other() -> anyhow::Result<()> {
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md"))?;
    let mut alerts = BTreeSet::new();
    for rule in &rules()? {
        let alert = rule["alert"].as_str().context("no name")?;
        assert_eq!(rule["annotations"]["runbook"], format!("docs/runbook.md#{}", alert.to_lowercase()));
        let heading = format!("\n## {alert}\n");
        let (_, section) = runbook.split_once(&heading).with_context(|| format!("no section {alert}"))?;
        let section = section.split("\n## ").next().unwrap_or_default();
        for part in ["**Meaning.**", "**Look at**", "**Do.**"] {
            assert!(section.contains(part), "{alert} has no {part}");
        }
        alerts.insert(alert.to_owned());
    }
    let headings: BTreeSet<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(headings, alerts);
    Ok(())
}

#[test]
fn dashboard_shows_metrics_that_exist() -> anyhow::Result<()> {
    let existing = metrics()?;
    let objects = Overlay::new(&["grafana"], "")?.objects()?;
    let map = &objects["ConfigMap podpolicy-system podpolicy-dashboard"];
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard: Value = serde_json::from_str(map["data"]["podpolicy.json"].as_str().context("no dashboard")?)?;
    let mut shown = BTreeSet::new();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().context("no panels")? {
        assert!(ids.insert(panel["id"].to_string()), "an id is there twice: {panel:#}");
        assert!(places.insert((panel["gridPos"]["x"].to_string(), panel["gridPos"]["y"].to_string())), "a place is taken: {panel:#}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let used = metrics_in(target["expr"].as_str().context("no expression")?);
            assert!(!used.is_empty() && used.is_subset(&existing), "{target:#}: not among {existing:?}");
            shown.extend(used);
        }
    }
    let parts = ["_sum", "_count"];
    let missing: Vec<_> = existing.difference(&shown).filter(|name| !parts.iter().any(|part| name.ends_with(part))).collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
    Ok(())
}

fn rules() -> anyhow::Result<Vec<Value>> {
    let objects = Overlay::new(&["prometheus"], "")?.objects()?;
    let groups = &objects["PrometheusRule podpolicy-system podpolicy"]["spec"]["groups"];
    Ok(groups[0]["rules"].as_array().context("no rules")?.clone())
}

/// The names of metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    expression.split(|character| !is_part(character)).filter(|word| word.starts_with("podpolicy_")).map(str::to_owned).collect()
}

/// The names that an operator serves, from its page, which a test compares with the operator; all but two are there from the start.
fn metrics() -> anyhow::Result<BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `podpolicy_")?.split_once('`'));
    let mut names = BTreeSet::new();
    for (name, rest) in rows {
        let name = format!("podpolicy_{name}");
        if rest.starts_with(" | histogram |") {
            names.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
        } else {
            names.insert(name);
        }
    }
    let served = Metrics::default().to_text();
    let served: BTreeSet<_> =
        served.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let not_at_the_start: Vec<_> = names.iter().filter(|name| !served.contains(name.as_str())).collect();
    anyhow::ensure!(
        not_at_the_start == ["podpolicy_watch_failures_total", "podpolicy_webhook_certificate_expiry_timestamp_seconds"],
        "{not_at_the_start:?}"
    );
    Ok(names)
}
