//! `podpolicy crd`: prints the CustomResourceDefinitions as YAML documents.

use std::io::{ErrorKind, Write, stdout};

use anyhow::{Context, Result};
use podpolicy_api::custom_resource_definitions;

/// Prints both definitions; a reader that stops reading is no error.
pub(crate) fn print() -> Result<()> {
    let mut text = String::new();
    for definition in custom_resource_definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).context("cannot write the definition as YAML")?);
    }
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}
