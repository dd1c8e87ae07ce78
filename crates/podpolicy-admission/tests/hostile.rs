//! Whatever users write into policies, it is data in the compiled objects: the expressions that come from users hold nothing but
//! literals, they say what the policies say, and the expressions that read them are always the same.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

#[path = "hostile/compiled.rs"]
mod compiled;

use compiled::{Compiled, hostile_policy};
use proptest::prelude::*;

/// Any characters at all, and what would end a literal, an expression or a line if it were let through.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = vec![
        "\"",
        "'",
        "\\",
        "\\u0022",
        "\"\"\"",
        "\n",
        "\r\n",
        "\u{2028}",
        "${",
        "}}",
        "]",
        ")",
        "//",
        "\" + \"",
        "\\\"",
        "`",
        "\0",
        "\u{7f}",
        "\u{e9}",
        "\u{1f600}",
        "variables.strings",
        "object.metadata.labels",
        "\"] + [JSONPatch{op: \"remove\", path: \"/spec\"}] + [\"",
    ];
    let piece = prop_oneof![2 => any::<char>().prop_map(String::from), 3 => prop::sample::select(pieces).prop_map(str::to_owned)];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    // A failure is printed with all that is needed.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_stays_data(texts in prop::collection::vec(hostile(), 6)) {
        let plain = Compiled::of(&hostile_policy(&["a", "b", "c", "d", "e", "f"].map(str::to_owned)));
        let texts: [String; 6] = texts.try_into().unwrap();
        let compiled = Compiled::of(&hostile_policy(&texts));
        compiled.check(&texts).map_err(TestCaseError::fail)?;
        compiled.difference(&plain).map_err(TestCaseError::fail)?;
    }
}
