//! Words of the command line that name something in a cluster.

use podpolicy_api::names::{LONGEST_LABEL, is_dns_label, is_qualified_name};
use podpolicy_engine::kubernetes::{NotAVersion, Version};

/// The name of a namespace.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "no namespace has such a name: at most {LONGEST_LABEL} lower-case letters, digits and '-', with a letter or digit at both ends"
    ))
}

/// One of several namespaces. An environment variable that is set to nothing counts as not set.
pub(crate) fn one_namespace(text: &str) -> Result<String, String> {
    one_of_several(text, namespace)
}

/// One of several keys of labels and annotations; nothing as for [`one_namespace`].
pub(crate) fn one_key(text: &str) -> Result<String, String> {
    one_of_several(text, |key| {
        if is_qualified_name(key) {
            return Ok(key.to_owned());
        }
        Err("no label or annotation has such a key; one looks like team or example.com/team".to_owned())
    })
}

/// A version of Kubernetes whose fields are known.
pub(crate) fn kubernetes_version(text: &str) -> Result<Version, String> {
    let version: Version = text.parse().map_err(|error: NotAVersion| error.to_string())?;
    if version.is_known() {
        return Ok(version);
    }
    Err(format!("the fields of Kubernetes {version} are not known; known are {} to {}", Version::OLDEST, Version::NEWEST))
}

fn one_of_several(text: &str, parse: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Ok(String::new()) } else { parse(text).map_err(|error| format!("{error}; separate several by commas")) }
}

/// What was given of several.
pub(crate) fn given<C: FromIterator<String>>(words: impl IntoIterator<Item = String>) -> C {
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_without_spaces_or_refused() {
        assert_eq!(one_namespace(" shop ").unwrap(), "shop");
        assert_eq!(one_namespace(" ").unwrap(), "");
        assert_eq!(one_key(" example.com/team").unwrap(), "example.com/team");
        for wrong in ["A", "a b", "a/b", "a."] {
            assert!(namespace(wrong).unwrap_err().starts_with("no namespace has such a name"), "{wrong}");
            assert!(one_namespace(wrong).unwrap_err().ends_with("separate several by commas"), "{wrong}");
        }
        assert_eq!(kubernetes_version("v1.33.4"), Ok(Version::new(33)));
        for unknown in ["1.29", "1.38.1"] {
            assert!(kubernetes_version(unknown).unwrap_err().ends_with("are not known; known are 1.30 to 1.37"), "{unknown}");
        }
        assert!(kubernetes_version("latest").unwrap_err().contains("is not a version of Kubernetes"));
        assert!(namespace("").is_err());
        for wrong in ["a/b/c", "a b", "/a"] {
            assert!(one_key(wrong).unwrap_err().starts_with("no label or annotation has such a key"), "{wrong}");
        }
    }
}
