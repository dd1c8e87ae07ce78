//! `podpolicy crd`: prints the CustomResourceDefinitions as YAML documents.

use anyhow::{Context, Result};
use podpolicy_api::custom_resource_definitions;

use crate::output;

/// Prints both definitions.
pub(crate) fn print() -> Result<()> {
    let mut text = String::new();
    for definition in custom_resource_definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).context("cannot write the definition as YAML")?);
    }
    output::print(&text)
}
