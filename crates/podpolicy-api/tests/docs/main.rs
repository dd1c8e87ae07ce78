//! What is written for users agrees with the types: descriptions in the definitions, `docs/reference.md` and `docs/findings.md`.

mod findings;
mod reference;
mod schema;
