//! `crds/` holds what the types say. `UPDATE=1 cargo test -p podpolicy-api` rewrites it.

use std::{fs, path::Path};

use podpolicy_api::custom_resource_definitions;

#[test]
fn crds_folder_is_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    for definition in custom_resource_definitions() {
        let file = folder.join(format!("{}.yaml", definition.metadata.name.as_deref().unwrap()));
        let wanted = serde_saphyr::to_string(&definition).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &wanted).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == wanted, "{} is not what the types say: run `UPDATE=1 cargo test -p podpolicy-api`", file.display());
    }
}
