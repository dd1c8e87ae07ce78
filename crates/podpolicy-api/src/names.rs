//! The grammars of names in Kubernetes (apimachinery `validation`): what the API server refuses, nobody need send.

/// The longest label of a DNS name, in bytes; the longest value of a label as well.
pub const LONGEST_LABEL: usize = 63;
/// The longest DNS name, in bytes.
pub const LONGEST_SUBDOMAIN: usize = 253;
/// The longest name of a port, in bytes.
const LONGEST_PORT: usize = 15;

/// RFC 1123 label: what names of namespaces are.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_dns_part(text)
}

/// RFC 1123 subdomain: what names of most objects are, and prefixes of keys.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    // Its parts may be longer than DNS allows.
    text.len() <= LONGEST_SUBDOMAIN && text.split('.').all(is_dns_part)
}

/// The key of a label or an annotation: `[prefix/]name`.
#[must_use]
pub fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_dns_subdomain)
}

/// The value of a label, and the name in a key.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_outer = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= LONGEST_LABEL && value.bytes().all(is_inner) && is_outer(value.bytes().next()) && is_outer(value.bytes().last())
}

/// The name of a container's port.
#[must_use]
pub fn is_port_name(name: &str) -> bool {
    name.len() <= LONGEST_PORT && is_dns_part(name) && name.bytes().any(|byte| byte.is_ascii_lowercase()) && !name.contains("--")
}

/// Lower-case letters, digits and hyphens, with a letter or digit at both ends.
fn is_dns_part(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        for (is_name, good, bad) in [
            (is_dns_label as fn(&str) -> bool, vec!["a", "0", "a-b", &long[1..]], vec!["", "-a", "a-", "A", "a.b", "a b", "ä", &long]),
            (is_dns_subdomain, vec!["a", "a.b-c.d", &long, &longer[2..]], vec!["", ".", "a.", "a..b", "a.-b", "A", &longer]),
            (
                is_qualified_name,
                vec!["a", "A_b.c", "example.com/a", &long[1..]],
                vec!["", "/", "a/", "/a", "a/b/c", "A/b", "-a", "a b", &long],
            ),
            (is_label_value, vec!["", "a", "A-b_c.d", "1"], vec!["-", "a.", "a/b", "a b", &long]),
            (is_port_name, vec!["http", "a", "http-2", "123456789012-ab"], vec!["", "80", "-a", "a-", "a--b", "HTTP", "1234567890123-ab"]),
        ] {
            for text in good {
                assert!(is_name(text), "{text:?}");
            }
            for text in bad {
                assert!(!is_name(text), "{text:?}");
            }
        }
    }
}
