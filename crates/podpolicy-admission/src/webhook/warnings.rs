//! What the user who creates a pod is told: the policies' values that were refused or not taken, one line each.
//!
//! Never more or longer than the API server passes on as a whole: past 4 KiB in all it cuts each to 256 characters.

use podpolicy_api::FindingReason;
use podpolicy_engine::{Creation, Finding, Omitted};

/// The most warnings for one pod.
pub(super) const MOST: usize = 10;

/// The most characters of a warning.
const LONGEST: usize = 256;

/// The warnings for a creation: what has no room first, then what was refused, then what the workload keeps.
pub(super) fn of(creation: &Creation) -> Vec<String> {
    let room = match creation.omitted {
        Omitted::Nothing => None,
        Omitted::Metadata => Some("the pod's annotations have no room for the policies' labels and annotations; shorten them"),
        Omitted::Everything => Some("the pod's annotations have no room for the record of what policies give; shorten them"),
    };
    let findings = || creation.verdicts.iter().flat_map(|verdict| verdict.findings.iter().map(move |finding| (verdict, finding)));
    let refused = findings().filter(|(_, finding)| finding.refused);
    let kept = findings().filter(|(_, finding)| !finding.refused && finding.reason == FindingReason::Kept);
    let lines = refused
        .chain(kept)
        .map(|(verdict, Finding { field, message, .. })| bounded(format!("{}: {field}: {message}", verdict.policy.id())));
    let mut warnings: Vec<_> = room.map(str::to_owned).into_iter().chain(lines).take(MOST + 1).collect();
    if warnings.len() > MOST {
        warnings.truncate(MOST - 1);
        warnings.push("more was kept or refused; the status of the policies has it all".to_owned());
    }
    warnings
}

/// The text as a warning header takes it: short, and on one line.
pub(super) fn bounded(text: String) -> String {
    // Nearly every text is one as it is, which bytes tell.
    if text.len() <= LONGEST && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return text;
    }
    let line = text.replace(char::is_control, " ");
    if line.chars().nth(LONGEST).is_some() { line.chars().take(LONGEST - 3).chain("...".chars()).collect() } else { line }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use podpolicy_engine::{Policy, Program, Settings};
    use serde_json::json;

    use super::*;

    #[test]
    fn warnings_are_short_and_on_one_line() {
        let bounded = |text: &str| bounded(text.to_owned());
        assert_eq!(bounded("a\nb\tc"), "a b c");
        assert_eq!(bounded(&"ä".repeat(256)), "ä".repeat(256));
        assert_eq!(bounded(&"ä".repeat(257)), format!("{}...", "ä".repeat(253)));
    }

    #[test]
    fn warnings_are_few_and_refusals_go_first() {
        let labels: HashMap<_, _> = (0..20).map(|number| (format!("{number}.kubernetes.io/key"), "x")).collect();
        let policy = json!({
            "metadata": { "name": "web" },
            "spec": { "selector": {}, "labels": labels, "annotations": { "a": "policy" } },
        });
        let policy = Arc::new(Policy::from_cluster(&serde_json::from_value(policy).unwrap()));
        let program = Program::new([policy], HashMap::new(), Settings::default());
        let pod = json!({ "metadata": { "name": "web", "namespace": "shop", "annotations": { "a": "pod" } } });
        let warnings = of(&program.create(&serde_json::from_value(pod).unwrap()));
        assert_eq!(warnings.len(), 10);
        assert!(warnings[0].starts_with("ClusterPodPolicy web: labels[0.kubernetes.io/key]: "), "{warnings:?}");
        assert!(warnings[9].starts_with("more was kept or refused"), "{warnings:?}");
        assert!(warnings.iter().map(|warning| warning.len() + 20).sum::<usize>() < 4096);
    }
}
