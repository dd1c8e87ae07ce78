//! What is wrong with one field of a policy, and where the field is.

use std::fmt;

use podpolicy_manifests::Step;

/// What is wrong with one field of a policy. `Display` gives `path: message`.
#[derive(Debug)]
pub(crate) struct Wrong {
    place: Place,
    message: String,
}

/// The way to a field, from the policy on.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// As it is told.
    text: String,
    steps: Vec<Step>,
}

impl Wrong {
    /// A mistake in the field of that path.
    pub(crate) fn field(path: &str, message: impl Into<String>) -> Self {
        Self::at(Place::default().then(path), message)
    }

    /// A mistake in words that begin with the path of the field.
    pub(crate) fn of(text: &str) -> Self {
        match text.split_once(": ") {
            Some((path, message)) if !path.contains(' ') => Self::field(path, message),
            _ => Self::field("", text),
        }
    }

    /// A mistake at a place.
    pub(super) fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }

    /// The way to the field, from the policy on.
    pub(crate) fn path(&self) -> &[Step] {
        &self.place.steps
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.text.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.place.text, self.message) }
    }
}

impl Place {
    /// A field of the object at this place.
    pub(super) fn field(&self, name: &str) -> Self {
        let dot = if self.text.is_empty() { "" } else { "." };
        self.step(Step::Key(name.to_owned()), &format!("{dot}{name}"))
    }

    /// A key of the map at this place.
    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()), &format!("[{key}]"))
    }

    /// An item of the list at this place.
    pub(super) fn item(&self, index: usize) -> Self {
        self.step(Step::Index(index), &format!("[{index}]"))
    }

    /// Where a path leads from here: names after dots, and keys or places in brackets.
    pub(super) fn then(&self, path: &str) -> Self {
        let (mut place, mut rest) = (self.clone(), path);
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = inner.split_once(']').unwrap_or((inner, ""));
                place = step.parse().map_or_else(|_| place.key(step), |index| place.item(index));
                rest = after;
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                place = place.field(&rest[..end]);
                rest = &rest[end..];
            }
        }
        place
    }

    fn step(&self, step: Step, text: &str) -> Self {
        let steps = self.steps.iter().cloned().chain([step]).collect();
        Self { text: format!("{}{text}", self.text), steps }
    }
}
