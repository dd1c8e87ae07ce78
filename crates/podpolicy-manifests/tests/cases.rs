//! What policies make of manifests, case by case: `cases/<behaviour>/{policies,before,after}.yaml`, and `notes.txt` for what is said.
//! `UPDATE=1` rewrites the expected files.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

use std::fmt::Write as _;

use std::{fs, path::Path};

mod given;

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 10);
    let wrong: Vec<_> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(case: &Path) -> Result<(), String> {
    let read = |file: &str| fs::read_to_string(case.join(file)).unwrap_or_default();
    let (policies, before) = (read("policies.yaml"), read("before.yaml"));
    let rendered = given::rendered(&policies, &before);
    let mut notes = String::new();
    for problem in &rendered.problems {
        _ = writeln!(notes, "problem {problem}");
    }
    for note in &rendered.notes {
        _ = writeln!(notes, "{} {}", note.object, note.problem);
    }
    let after = rendered.text(&before).unwrap_or(before);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(case.join("after.yaml"), &after).unwrap();
        if !notes.is_empty() {
            fs::write(case.join("notes.txt"), &notes).unwrap();
        }
    }
    for (file, got) in [("after.yaml", &after), ("notes.txt", &notes)] {
        let want = read(file);
        if *got != want {
            return Err(format!("{}: got\n{got}\nwant\n{want}", case.join(file).display()));
        }
    }
    Ok(())
}
