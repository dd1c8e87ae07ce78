//! Globs over container names: `*` stands for any text, `?` for one character, anything else for itself.

/// Whether it can stand for several names.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether the whole name matches the glob.
pub(crate) fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut at_glob, mut at_name) = (0, 0);
    // Where to go on when a later part fails: behind the last `*`, which then takes one more character.
    let mut retry: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match glob.get(at_glob) {
            Some(b'*') => {
                retry = Some((at_glob + 1, at_name));
                at_glob += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == name[at_name] => {
                at_glob += 1;
                at_name += 1;
            }
            Some(_) | None => match retry {
                Some((after_star, taken)) => {
                    retry = Some((after_star, taken + 1));
                    at_glob = after_star;
                    at_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[at_glob..].iter().all(|&rest| rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_any_text_and_question_mark_for_one_character() {
        for (glob, name) in [("*", "web"), ("web", "web"), ("web-*", "web-"), ("w?b", "web"), ("*-api-*", "a-api-b-api-c"), ("*b", "bab")] {
            assert!(matches(glob, name), "{glob} should match {name}");
        }
        for (glob, name) in [("web", "webs"), ("w?b", "wb"), ("web-*", "web"), ("*-api", "api"), ("?", ""), ("WEB", "web")] {
            assert!(!matches(glob, name), "{glob} should not match {name}");
        }
    }
}
