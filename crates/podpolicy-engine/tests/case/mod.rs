//! A case: a folder with what is given (`policies.yaml`, `pod.yaml`, `facts.yaml` if there are any) and what is wanted of it
//! (`want.yaml`). `UPDATE=1` rewrites `want.yaml` with what was seen; whoever does that reads it against the documentation.

mod given;
mod seen;

use std::{fs, path::PathBuf};

use given::Given;
use seen::Seen;

/// Where the cases are.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"))
}

/// Decides the case and compares what is seen with what is wanted.
pub fn check(behaviour: &str) {
    let folder = folder().join(behaviour);
    let given = Given::read(&folder);
    let seen = Seen::of(&given);
    let file = folder.join("want.yaml");
    let wanted = fs::read_to_string(&file).ok().map(|text| Seen::read(&text, &file));
    let seen = match &wanted {
        Some(wanted) => seen.in_the_words_of(wanted),
        None => seen,
    };
    if wanted.as_ref() == Some(&seen) {
        return;
    }
    let seen = serde_saphyr::to_string(&seen.in_short()).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, seen).unwrap();
        return;
    }
    let wanted = wanted.map(|wanted| serde_saphyr::to_string(&wanted).unwrap()).unwrap_or_default();
    panic!(
        "tests/cases/{behaviour}/want.yaml wants (-), but (+)\n{}\nwhere that is right, `UPDATE=1 cargo test {behaviour}` writes it down",
        difference(&wanted, &seen)
    );
}

/// The lines of both texts, those that only one has marked with `-` or `+`.
fn difference(wanted: &str, seen: &str) -> String {
    let (wanted, seen): (Vec<_>, Vec<_>) = (wanted.lines().collect(), seen.lines().collect());
    // common[i][j]: how many lines, in order, the rests from i and from j have in common.
    let mut common = vec![vec![0; seen.len() + 1]; wanted.len() + 1];
    for i in (0..wanted.len()).rev() {
        for j in (0..seen.len()).rev() {
            common[i][j] = if wanted[i] == seen[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < wanted.len() || j < seen.len() {
        if i < wanted.len() && j < seen.len() && wanted[i] == seen[j] {
            lines.push(format!("  {}", wanted[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == seen.len() || (i < wanted.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", wanted[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", seen[j]));
            j += 1;
        }
    }
    lines.join("\n")
}
