//! What is written for users agrees with the types: descriptions in the definitions, `docs/reference.md` and `docs/findings.md`.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod findings;
mod reference;
mod schema;
