//! What an API server does with fields of pods that not every supported version has: by its version, or as it was seen. Pure; the module
//! never asks a server.

use std::collections::BTreeSet;

use crate::kubernetes::Version;

/// A field of containers that some API servers drop: their version does not have it, or its feature gate is off.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Feature {
    /// `sleep` in a hook.
    SleepHook,
    /// `lifecycle.stopSignal`.
    StopSignal,
    /// `httpGet.protocol` in a probe or hook.
    HttpProtocol,
    /// `grpc.mode` in a probe.
    GrpcMode,
    /// `restartPolicy` of application containers. Policies do not set it; decisions read it.
    ContainerRestartPolicy,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 5] = [Self::SleepHook, Self::StopSignal, Self::HttpProtocol, Self::GrpcMode, Self::ContainerRestartPolicy];

    /// A place of the field in a container, key by key.
    pub fn path(self) -> &'static [&'static str] {
        match self {
            Self::SleepHook => &["lifecycle", "preStop", "sleep"],
            Self::StopSignal => &["lifecycle", "stopSignal"],
            Self::HttpProtocol => &["livenessProbe", "httpGet", "protocol"],
            Self::GrpcMode => &["readinessProbe", "grpc", "mode"],
            Self::ContainerRestartPolicy => &["restartPolicy"],
        }
    }

    /// The field, as messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SleepHook => "sleep in hooks",
            Self::StopSignal => "lifecycle.stopSignal",
            Self::HttpProtocol => "httpGet.protocol",
            Self::GrpcMode => "grpc.mode",
            Self::ContainerRestartPolicy => "restartPolicy of application containers",
        }
    }

    /// The feature gate of API server and kubelet.
    pub fn gate(self) -> &'static str {
        match self {
            Self::SleepHook => "PodLifecycleSleepAction",
            Self::StopSignal => "ContainerStopSignals",
            Self::HttpProtocol => "H2CContainerProbe",
            Self::GrpcMode => "GRPCContainerProbeTLS",
            Self::ContainerRestartPolicy => "ContainerRestartRules",
        }
    }

    /// The first version that knows the gate.
    pub fn known_since(self) -> Version {
        match self {
            Self::SleepHook => Version::new(29),
            Self::StopSignal => Version::new(33),
            Self::HttpProtocol | Self::GrpcMode => Version::new(37),
            Self::ContainerRestartPolicy => Version::new(34),
        }
    }

    /// The first version in which the gate is on by default; none where it is off in all versions up to the newest known.
    pub fn on_since(self) -> Option<Version> {
        match self {
            Self::SleepHook => Some(Version::new(30)),
            Self::ContainerRestartPolicy => Some(Version::new(35)),
            Self::StopSignal | Self::HttpProtocol | Self::GrpcMode => None,
        }
    }
}

/// Which of these fields an API server keeps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Support {
    server: Option<Version>,
    drops: BTreeSet<Feature>,
}

impl Support {
    /// All of them: what is assumed of a server of which nothing is known.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those that a server of this version keeps with its default feature gates. For files, where no server can be asked.
    pub fn of(server: Version) -> Self {
        let is_off = |feature: &Feature| feature.on_since().is_none_or(|since| server < since);
        Self { server: Some(server), drops: Feature::ALL.into_iter().filter(is_off).collect() }
    }

    /// All but those that a server was seen to drop.
    pub fn found(server: Option<Version>, drops: impl IntoIterator<Item = Feature>) -> Self {
        Self { server, drops: drops.into_iter().collect() }
    }

    /// The version of the server, where it is known.
    pub fn server(&self) -> Option<Version> {
        self.server
    }

    /// Whether the server keeps the field.
    pub fn has(&self, feature: Feature) -> bool {
        !self.drops.contains(&feature)
    }

    /// Says that the server drops the field, which version and gate bring it, and what to do; none if the server keeps it.
    pub(crate) fn lack(&self, feature: Feature) -> Option<String> {
        if self.has(feature) {
            return None;
        }
        let server = self.server.map_or_else(|| "the API server".to_owned(), |version| format!("Kubernetes {version}"));
        let (name, gate) = (feature.name(), feature.gate());
        let remedy = match (self.server, feature.on_since()) {
            (Some(version), Some(on)) if version < on => {
                format!("it is on by default from Kubernetes {on}, and before that with the feature gate {gate}; upgrade")
            }
            (Some(version), None) if version < feature.known_since() => {
                format!("it needs Kubernetes {} with the feature gate {gate}; upgrade and turn the gate on", feature.known_since())
            }
            (_, None) => format!("it needs the feature gate {gate}, which is off by default; turn the gate on"),
            (_, Some(_)) => format!("its feature gate {gate} is off; turn the gate on"),
        };
        Some(format!("{server} drops {name}; {remedy}, or remove the setting from the policy"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_says_which_fields_are_kept_by_default() {
        let kept = |minor| {
            let support = Support::of(Version::new(minor));
            Feature::ALL.into_iter().filter(|feature| support.has(*feature)).collect::<Vec<_>>()
        };
        assert_eq!(kept(29), []);
        assert_eq!(kept(30), [Feature::SleepHook]);
        assert_eq!(kept(34), [Feature::SleepHook]);
        assert_eq!(kept(35), [Feature::SleepHook, Feature::ContainerRestartPolicy]);
        assert_eq!(kept(37), kept(35));
    }

    #[test]
    fn what_was_found_counts_whatever_the_version() {
        let support = Support::found(Some(Version::new(37)), [Feature::SleepHook]);
        assert!(support.has(Feature::StopSignal) && !support.has(Feature::SleepHook));
        assert!(Feature::ALL.into_iter().all(|feature| Support::all().has(feature)));
    }

    #[test]
    fn message_names_field_server_and_what_brings_it() {
        let lack = |support: &Support, feature| support.lack(feature).unwrap_or_default();
        let end = "or remove the setting from the policy";
        assert_eq!(
            lack(&Support::of(Version::new(32)), Feature::StopSignal),
            format!(
                "Kubernetes 1.32 drops lifecycle.stopSignal; it needs Kubernetes 1.33 with the feature gate ContainerStopSignals; upgrade and turn the gate on, {end}"
            )
        );
        assert_eq!(
            lack(&Support::of(Version::new(37)), Feature::GrpcMode),
            format!(
                "Kubernetes 1.37 drops grpc.mode; it needs the feature gate GRPCContainerProbeTLS, which is off by default; turn the gate on, {end}"
            )
        );
        assert_eq!(
            lack(&Support::of(Version::new(29)), Feature::SleepHook),
            format!(
                "Kubernetes 1.29 drops sleep in hooks; it is on by default from Kubernetes 1.30, and before that with the feature gate PodLifecycleSleepAction; upgrade, {end}"
            )
        );
        assert_eq!(
            lack(&Support::found(None, [Feature::SleepHook]), Feature::SleepHook),
            format!("the API server drops sleep in hooks; its feature gate PodLifecycleSleepAction is off; turn the gate on, {end}")
        );
        assert_eq!(Support::all().lack(Feature::StopSignal), None);
    }
}
