//! What a rule is, and the list of all of them.

use std::fmt;

use super::{decided, ignore, policy, rules, structure, versions};

/// Something that `check` looks for.
#[derive(Debug, Eq, PartialEq)]
pub struct Rule {
    /// Its name, in kebab-case.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is found, in a few words.
    pub summary: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Worth knowing; nothing breaks.
    Note,
    /// It breaks sooner or later.
    Warning,
    /// It cannot work as it is written.
    Error,
}

/// An id that no rule has.
#[derive(Debug, Eq, PartialEq)]
pub struct UnknownRule {
    /// The id.
    pub id: String,
    /// The rule that may be meant.
    pub meant: Option<&'static str>,
}

/// A file or document that cannot be read.
pub(super) const UNREADABLE: Rule = Rule {
    id: "unreadable",
    severity: Severity::Error,
    summary: "a file or document cannot be read",
    why: "What is in it was not looked at, so that nobody can say whether it is right.",
    remedy: "Correct the file where the message says, or exclude it, by .gitignore for example.",
};

/// A pod that the API server would refuse.
pub(super) const INVALID_MANIFEST: Rule = Rule {
    id: "invalid-manifest",
    severity: Severity::Error,
    summary: "an object that makes pods has a value of the wrong type, or lacks what every pod needs",
    why: "The API server refuses the object.",
    remedy: "Correct the field that the message names; values of labels and annotations are strings, in quotes where they look like numbers.",
};

/// A policy that the API server would refuse.
pub(super) const INVALID_POLICY: Rule = Rule {
    id: "invalid-policy",
    severity: Severity::Error,
    summary: "a policy has a field that is unknown, missing or out of bounds, or breaks a rule of its definition",
    why: "The API server refuses the policy. Here it is left out, so that its pods are looked at without it.",
    remedy: "Correct the field that the message names.",
};

/// Without these nothing else can be relied on.
const MISTAKES: [&Rule; 3] = [&UNREADABLE, &INVALID_MANIFEST, &INVALID_POLICY];

/// How alike a word must be to an id to be taken for a slip of it, from 0 to 1.
const ALIKE: f64 = 0.7;

impl Rule {
    /// A file or document that cannot be read; the check is incomplete.
    pub const fn unreadable() -> &'static Self {
        &UNREADABLE
    }

    /// A policy that the API server would refuse.
    pub const fn invalid_policy() -> &'static Self {
        &INVALID_POLICY
    }

    /// All rules: mistakes first, then those about policies, then those about pods.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let on_pods = rules::ON_PODS.into_iter().map(|(rule, _)| rule);
        let on_objects = structure::RULES.into_iter().chain(versions::RULES);
        MISTAKES.into_iter().chain(on_objects).chain(ignore::RULES).chain(policy::RULES).chain(decided::RULES).chain(on_pods)
    }

    /// The rule of that id.
    pub fn find(id: &str) -> Result<&'static Self, UnknownRule> {
        Self::all().find(|rule| rule.id == id).ok_or_else(|| {
            let likeness = |rule: &Self| strsim::jaro_winkler(rule.id, &id.to_lowercase());
            let alike = Self::all().filter(|rule| likeness(rule) > ALIKE);
            let meant = alike.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).map(|rule| rule.id);
            UnknownRule { id: id.to_owned(), meant }
        })
    }

    /// Whether it cannot be switched off, because nothing else can be relied on where it finds something.
    pub fn is_mandatory(&self) -> bool {
        MISTAKES.contains(&self)
    }
}

impl Severity {
    /// All of them, the most severe first.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Note];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, meant } = self;
        write!(f, "there is no rule {id:?}; ")?;
        match meant {
            Some(meant) => write!(f, "did you mean {meant}?"),
            None => f.write_str("`podpolicy check --list` lists all"),
        }
    }
}
