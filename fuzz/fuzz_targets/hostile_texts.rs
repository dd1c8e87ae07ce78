//! Any texts of a user's in a policy: the compiled objects hold them as data, and are the same program as ever.

#![no_main]

#[path = "../../crates/podpolicy-admission/tests/hostile/compiled.rs"]
mod compiled;

use compiled::{Compiled, hostile_policy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: [String; 6]| {
    let compiled = Compiled::of(&hostile_policy(&texts));
    compiled.check(&texts).unwrap();
    let plain = Compiled::of(&hostile_policy(&["a", "b", "c", "d", "e", "f"].map(str::to_owned)));
    compiled.difference(&plain).unwrap();
});
