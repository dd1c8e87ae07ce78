//! Versions of Kubernetes, as servers and people write them. The module compares versions; it never asks a server.

use std::{fmt, str::FromStr};

/// A minor version of Kubernetes, such as 1.33. The major version is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The number after the dot.
    pub minor: u16,
}

/// A text that is no version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of Kubernetes; write one such as {newest}", newest = Version::NEWEST)]
pub struct NotAVersion(String);

impl Version {
    /// The oldest version that PodPolicy supports.
    pub const OLDEST: Self = Self::new(30);
    /// The newest version whose fields PodPolicy knows.
    pub const NEWEST: Self = Self::new(37);

    /// The version with that number after the dot.
    pub const fn new(minor: u16) -> Self {
        Self { minor }
    }

    /// Whether PodPolicy knows the fields of this version.
    pub fn is_known(self) -> bool {
        (Self::OLDEST..=Self::NEWEST).contains(&self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    /// Reads `1.33`, `v1.33.4`, `1.33.4-gke.100`, and `1.33+`, which some servers report.
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let minor = || {
            let after_major = text.strip_prefix('v').unwrap_or(text).strip_prefix("1.")?;
            let digits = after_major.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after_major.len());
            let (minor, rest) = after_major.split_at(digits);
            is_rest(rest).then(|| minor.parse().ok()).flatten()
        };
        minor().map(Self::new).ok_or_else(|| NotAVersion(text.to_owned()))
    }
}

/// Whether a text may follow the minor version: a patch release, a vendor's suffix, or both.
fn is_rest(rest: &str) -> bool {
    let is_suffix = |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-+_".contains(letter));
    match rest.strip_prefix('.') {
        Some(patch) => patch.starts_with(|letter: char| letter.is_ascii_digit()) && is_suffix(patch),
        None => rest.is_empty() || (rest.starts_with(['-', '+']) && is_suffix(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_and_people_write_them() {
        for text in ["1.33", "v1.33", "1.33.4", "v1.33.4", "1.33.4-gke.100", "v1.33.1-eks-7c5cae3", "1.33+", "v1.33.0+k3s1", "1.33-beta"] {
            assert_eq!(text.parse(), Ok(Version::new(33)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        for text in
            ["", "1", "1.", "v1", "33", "2.33", "1.x", "1.33.", "1.33.x", "1.33x", "1.33 ", "1.33, 1.34", "1.99999", "V1.33", "latest"]
        {
            let refusal = text.parse::<Version>().expect_err(text).to_string();
            assert_eq!(refusal, format!("{text:?} is not a version of Kubernetes; write one such as 1.37"));
        }
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(Version::new(9) < Version::OLDEST && Version::OLDEST < Version::NEWEST);
        assert!(Version::OLDEST.is_known() && Version::NEWEST.is_known());
        assert!(!Version::new(29).is_known() && !Version::new(38).is_known());
        assert_eq!(Version::NEWEST.to_string(), "1.37");
    }
}
