//! How a value changes, told by what changes in it alone.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value as Json};

use crate::Step;

/// A change of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// It becomes this, whatever it was.
    To(Json),
    /// Some of a mapping's values change or come; those with none here go. What is no mapping becomes one.
    Keys(BTreeMap<String, Option<Change>>),
    /// Some items of a list change.
    Items(BTreeMap<usize, Change>),
}

impl Default for Change {
    fn default() -> Self {
        Self::Keys(BTreeMap::new())
    }
}

impl Change {
    /// What changes from one value to another; none where nothing does.
    pub(crate) fn between(old: &Json, new: &Json) -> Option<Self> {
        let change = match (old, new) {
            _ if old == new => return None,
            (Json::Object(old), Json::Object(new)) => {
                let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None));
                let changed = new.iter().filter_map(|(key, new)| {
                    let change = old.get(key).map_or_else(|| Some(Self::To(new.clone())), |old| Self::between(old, new))?;
                    Some((key.clone(), Some(change)))
                });
                Self::Keys(gone.chain(changed).collect())
            }
            (Json::Array(old), Json::Array(new)) if old.len() == new.len() => {
                let items = old.iter().zip(new).enumerate();
                Self::Items(items.filter_map(|(index, (old, new))| Some((index, Self::between(old, new)?))).collect())
            }
            _ => Self::To(new.clone()),
        };
        Some(change)
    }

    /// Whether a mapping stays as it is.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Keys(keys) if keys.is_empty())
    }

    /// The change of a key's value.
    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        if !matches!(self, Self::Keys(_)) {
            *self = Self::default();
        }
        let Self::Keys(keys) = self else { unreachable!("it was made that") };
        keys.entry(key.to_owned()).or_default().get_or_insert_default()
    }

    /// The change of an item.
    pub(crate) fn item(&mut self, index: usize) -> &mut Self {
        if !matches!(self, Self::Items(_)) {
            *self = Self::Items(BTreeMap::new());
        }
        let Self::Items(items) = self else { unreachable!("it was made that") };
        items.entry(index).or_default()
    }

    /// The change of what is on the path.
    pub(crate) fn at(&mut self, path: &[Step]) -> &mut Self {
        path.iter().fold(self, |change, step| match step {
            Step::Key(key) => change.key(key),
            Step::Index(index) => change.item(*index),
        })
    }

    /// What comes of the old value.
    pub(crate) fn of(&self, mut old: Json) -> Cow<'_, Json> {
        if let Self::To(new) = self {
            return Cow::Borrowed(new);
        }
        self.apply(&mut old);
        Cow::Owned(old)
    }

    /// Changes a value.
    pub(crate) fn apply(&self, value: &mut Json) {
        match self {
            Self::To(new) => new.clone_into(value),
            Self::Keys(keys) => {
                let map = mapping(value);
                for (key, change) in keys {
                    match change {
                        Some(change) => change.apply(map.entry(key).or_insert(Json::Null)),
                        None => _ = map.remove(key),
                    }
                }
            }
            Self::Items(items) => {
                for (index, change) in items {
                    if let Some(item) = value.get_mut(index) {
                        change.apply(item);
                    }
                }
            }
        }
    }
}

/// The value as a mapping; what is no mapping becomes one.
pub(crate) fn mapping(value: &mut Json) -> &mut Map<String, Json> {
    if !value.is_object() {
        *value = Json::Object(Map::new());
    }
    value.as_object_mut().expect("it was made one")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_make_the_new_value_of_the_old_one() {
        let values = [
            json!(null),
            json!({}),
            json!({ "a": { "b": 1, "c": [1, { "d": 2 }] } }),
            json!({ "a": { "b": 2, "c": [1, { "e": 2 }] } }),
            json!({ "a": [1], "f": null }),
            json!({ "a": { "c": [1] } }),
            json!([1, 2]),
        ];
        for old in &values {
            for new in &values {
                let mut value = old.clone();
                match Change::between(old, new) {
                    Some(change) => change.apply(&mut value),
                    None => assert_eq!(old, new),
                }
                assert_eq!(&value, new);
            }
        }
    }

    #[test]
    fn what_is_the_same_is_not_told() {
        let old = json!({ "a": { "b": 1, "c": [{ "d": 1, "e": 1 }, 2] }, "f": 1, "g": 1 });
        let new = json!({ "a": { "b": 1, "c": [{ "d": 1, "e": 2 }, 2] }, "f": 1 });
        let mut wanted = Change::default();
        *wanted.at(&[Step::Key("a".to_owned()), Step::Key("c".to_owned()), Step::Index(0), Step::Key("e".to_owned())]) =
            Change::To(json!(2));
        let Change::Keys(keys) = &mut wanted else { panic!("{wanted:?}") };
        keys.insert("g".to_owned(), None);
        assert_eq!(Change::between(&old, &new), Some(wanted));
    }
}
