//! Images by names that change their meaning.

use crate::{
    Rule, Severity,
    check::subject::{Spot, Subject},
};

pub(super) const STALE_LATEST: Rule = Rule {
    id: "stale-latest-image",
    severity: Severity::Warning,
    summary: "an image is :latest, or has no tag, and is not always pulled",
    why: "Each node keeps the image that was the latest when it pulled it first, so that pods of one workload run different programs.",
    remedy: "Name a version or a digest; or leave imagePullPolicy out, which then is Always.",
};

pub(super) fn stale_latest(subject: &Subject<'_>) -> Vec<Spot> {
    let mut spots = Vec::new();
    for placed in subject.all() {
        let (Some(image), Some(policy)) = (&placed.container.image, &placed.container.image_pull_policy) else { continue };
        if policy != "Always" && is_latest(image) {
            spots.push(
                placed.spot(&["image"], format!("{image} is whatever was the latest when a node pulled it; imagePullPolicy is {policy}")),
            );
        }
    }
    spots
}

/// Whether the image's name says no version.
fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !last.is_empty() && !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::is_latest;

    #[test]
    fn versions_are_told_from_ports_of_registries() {
        for (image, wanted) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("example.invalid:5000/nginx", true),
            ("nginx:1", false),
            ("example.invalid:5000/a/nginx:1", false),
            ("nginx@sha256:abc", false),
            ("nginx:latest@sha256:abc", false),
            ("", false),
        ] {
            assert_eq!(is_latest(image), wanted, "{image}");
        }
    }
}
