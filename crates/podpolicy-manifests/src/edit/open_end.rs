//! Texts without a final line ending. A block scalar there ends with its last character, and would end with a line ending once more follows; so
//! it is told to strip that.

use super::{Splice, layout};
use crate::{
    Document, Manifest,
    yaml::{Kind, NodeId, Style},
};

/// What to change so that the last thing in the text stays as it is when more follows; nothing where it does anyway.
pub(super) fn closing(text: &str, document: &Document) -> Option<Splice> {
    let last = last(document);
    let node = document.node(last);
    if text.ends_with('\n') || document.kind(last) != Kind::Scalar(Style::Block) || node.end() < text.len() {
        return None;
    }
    let (at, indicators) = layout::block_scalar_header(text, node.start())?;
    if indicators.contains('-') {
        return None;
    }
    Some(match indicators.find('+') {
        Some(keeps) => Splice { range: at + keeps..at + keeps + 1, text: "-".to_owned() },
        None => Splice::insert(at + 1, "-".to_owned()),
    })
}

/// The text with a final line ending, and all that it says as it was.
pub fn terminated(text: String) -> String {
    if text.is_empty() || text.ends_with('\n') {
        return text;
    }
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let splice = Manifest::parse(text.clone()).ok().and_then(|manifest| closing(&text, manifest.documents().last()?));
    super::apply(&text, splice.as_slice()) + ending
}

/// The node that ends last.
fn last(document: &Document) -> NodeId {
    let mut node = document.root();
    loop {
        let inner = match document.kind(node) {
            Kind::Mapping { flow: false } => document.entries(node).last().map(|(_, value)| value),
            Kind::Sequence { flow: false } => document.items(node).last(),
            Kind::Scalar(_) | Kind::Mapping { flow: true } | Kind::Sequence { flow: true } | Kind::Alias(_) => None,
        };
        match inner {
            Some(inner) => node = inner,
            None => return node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminated_texts_say_what_they_said() {
        for (open, closed) in [
            ("a: |\n  x", "a: |-\n  x\n"),
            ("a:\n- >+ # why\n  x\n\n  y", "a:\n- >- # why\n  x\n\n  y\n"),
            ("a: |2\n    x", "a: |-2\n    x\n"),
            ("a: |-\r\n  x", "a: |-\r\n  x\r\n"),
            ("a: x", "a: x\n"),
            ("a: |\n  x\nb: 1 # |", "a: |\n  x\nb: 1 # |\n"),
            ("a: |\n  x\n# end", "a: |\n  x\n# end\n"),
            ("", ""),
        ] {
            let got = terminated(open.to_owned());
            assert_eq!(got, closed);
            let meaning = |text: &str| {
                let manifest = Manifest::parse(text.to_owned()).unwrap();
                manifest.documents().first().map(|document| manifest.value(document).unwrap())
            };
            assert_eq!(meaning(&got), meaning(open), "{open:?}");
        }
    }
}
