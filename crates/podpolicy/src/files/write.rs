//! Files written in one step: whatever happens meanwhile, the old text is there or the new one.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

/// Replaces a file's text. Its permissions stay; where the path is a symbolic link, so does the link.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let cannot_write = || format!("cannot write {}", path.display());
    let path = fs::canonicalize(path).with_context(cannot_write)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::new_in(folder).with_context(cannot_write)?;
    file.write_all(text.as_bytes()).with_context(cannot_write)?;
    let permissions = fs::metadata(&path).with_context(cannot_write)?.permissions();
    file.as_file().set_permissions(permissions).with_context(cannot_write)?;
    file.as_file().sync_all().with_context(cannot_write)?;
    file.persist(&path).with_context(cannot_write)?;
    Ok(())
}
