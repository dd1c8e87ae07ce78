//! `podpolicy crd`: prints the CustomResourceDefinitions as YAML documents, or what editors need of them.

use anyhow::{Context, Result};
use clap::Args;
use podpolicy_api::{custom_resource_definitions, json_schema};

use crate::output;

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Print a JSON Schema of both kinds instead, with which editors complete and check policies
    #[arg(long)]
    schema: bool,
}

/// Prints both definitions, or their schema.
pub(crate) fn print(arguments: &Arguments) -> Result<()> {
    if arguments.schema {
        return output::print(&format!("{:#}\n", json_schema()));
    }
    let mut text = String::new();
    for definition in custom_resource_definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).context("cannot write the definition as YAML")?);
    }
    output::print(&text)
}
