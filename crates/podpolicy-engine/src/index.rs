//! An index over selectors: for a set of labels it names the few policies that can match, so that the cost for one pod does
//! not grow with policies that do not select it.

use std::collections::{BTreeMap, HashMap};

use kube::core::Expression;

use crate::Selector;

/// Selectors of ranked policies, each filed under the rarest thing that it requires.
#[derive(Debug, Default)]
pub(crate) struct SelectorIndex {
    keys: HashMap<String, KeyBucket>,
    /// Selectors that require no label, once each, with their policies.
    unanchored: Vec<(Selector, Vec<u32>)>,
}

#[derive(Debug, Default)]
struct KeyBucket {
    /// Policies that require the key with any value.
    present: Vec<u32>,
    /// Policies that require the key with this value.
    values: HashMap<String, Vec<u32>>,
}

/// What a selector requires of one label, and can be filed under.
enum Anchor<'a> {
    Present(&'a str),
    Values(&'a str, Vec<&'a str>),
}

impl SelectorIndex {
    /// Files the selectors under their ranks.
    pub(crate) fn new<'a>(selectors: impl Iterator<Item = (u32, &'a Selector)> + Clone) -> Self {
        let frequency = count(selectors.clone());
        let mut index = Self::default();
        let mut unanchored: HashMap<String, usize> = HashMap::new();
        for (rank, selector) in selectors {
            let rarest = anchors(selector).min_by_key(|anchor| anchor.cost(&frequency));
            match rarest {
                Some(Anchor::Present(key)) => index.bucket(key).present.push(rank),
                Some(Anchor::Values(key, values)) => {
                    let bucket = index.bucket(key);
                    for value in values {
                        bucket.values.entry(value.to_owned()).or_default().push(rank);
                    }
                }
                None => {
                    let at = *unanchored.entry(selector.to_string()).or_insert_with(|| {
                        index.unanchored.push((selector.clone(), Vec::new()));
                        index.unanchored.len() - 1
                    });
                    index.unanchored[at].1.push(rank);
                }
            }
        }
        index
    }

    /// The ranks of policies that can match these labels, in order; each must still be asked.
    pub(crate) fn candidates(&self, labels: &BTreeMap<String, String>) -> Vec<u32> {
        let mut ranks = Vec::new();
        for (key, value) in labels {
            if let Some(bucket) = self.keys.get(key) {
                ranks.extend_from_slice(&bucket.present);
                ranks.extend(bucket.values.get(value).into_iter().flatten());
            }
        }
        for (selector, policies) in &self.unanchored {
            if selector.matches(labels) {
                ranks.extend_from_slice(policies);
            }
        }
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    fn bucket(&mut self, key: &str) -> &mut KeyBucket {
        self.keys.entry(key.to_owned()).or_default()
    }
}

type Frequency<'a> = HashMap<(&'a str, Option<&'a str>), usize>;

fn count<'a>(selectors: impl Iterator<Item = (u32, &'a Selector)>) -> Frequency<'a> {
    let mut frequency = Frequency::new();
    for anchor in selectors.flat_map(|(_, selector)| anchors(selector)) {
        match anchor {
            Anchor::Present(key) => *frequency.entry((key, None)).or_default() += 1,
            Anchor::Values(key, values) => {
                for value in values {
                    *frequency.entry((key, Some(value))).or_default() += 1;
                }
            }
        }
    }
    frequency
}

impl Anchor<'_> {
    /// How many policies share the anchor; an anchor on a key alone is met by more pods than one on a value.
    fn cost(&self, frequency: &Frequency<'_>) -> (bool, usize) {
        match self {
            Self::Present(key) => (true, frequency[&(*key, None)]),
            Self::Values(key, values) => (false, values.iter().map(|&value| frequency[&(*key, Some(value))]).sum()),
        }
    }
}

fn anchors(selector: &Selector) -> impl Iterator<Item = Anchor<'_>> {
    selector.expressions().filter_map(|expression| match expression {
        Expression::Equal(key, value) => Some(Anchor::Values(key, vec![value])),
        Expression::In(key, values) => Some(Anchor::Values(key, values.iter().map(String::as_str).collect())),
        Expression::Exists(key) => Some(Anchor::Present(key)),
        Expression::NotIn(..) | Expression::NotEqual(..) | Expression::DoesNotExist(_) => None,
    })
}
