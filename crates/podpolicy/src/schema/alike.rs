//! Slips of known words.

/// How alike a word must be to a known one to be taken for a slip of it, from 0 to 1.
const ALIKE: f64 = 0.7;

/// "did you mean ...? ", where one of the known words is alike; otherwise nothing.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &word.to_lowercase());
    let alike = known.iter().filter(|known| likeness(known) > ALIKE).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    alike.map(|alike| format!("did you mean {alike}? ")).unwrap_or_default()
}
