//! A kustomization of a user's own, on top of `config/default`. Must never change a file of the project.

use std::path::{Component, Path};

use anyhow::Context as _;
use tempfile::TempDir;

/// `config/default`, some of the components in `config/`, and more lines.
#[derive(Debug)]
pub struct Overlay {
    folder: TempDir,
}

impl Overlay {
    /// Writes one into a folder that goes with it.
    pub fn new(components: &[&str], more: &str) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        // Kustomize takes no absolute paths.
        let depth = folder.path().canonicalize()?.components().filter(|part| matches!(part, Component::Normal(_))).count();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").canonicalize()?;
        let config = format!("{}{}", vec![".."; depth].join("/"), config.display());
        let components: Vec<_> = components.iter().map(|component| format!("{config}/{component}")).collect();
        let text = format!("resources: [{config}/default]\ncomponents: [{}]\n{more}", components.join(", "));
        std::fs::write(folder.path().join("kustomization.yaml"), text).context("the kustomization could not be written")?;
        Ok(Self { folder })
    }

    /// The folder, for `kubectl apply -k` and `kustomize build`.
    pub fn path(&self) -> &str {
        self.folder.path().to_str().expect("temporary folders have names in UTF-8")
    }
}
