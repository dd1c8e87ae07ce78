//! The image: what `e2e/image.sh` makes of a binary, and that the Dockerfile says the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::render::{output, root, tools};

#[test]
fn archive_holds_the_binary_and_nothing_else() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (binary, unpacked) = (static_binary()?, folder.path().join("unpacked"));
    let archive = folder.path().join("image.tar");
    output(Command::new("e2e/image.sh").args([&binary, &archive]).arg("registry.example/podpolicy:1"))?;
    unpack(&archive, &unpacked)?;

    let manifest = json_file(&unpacked.join("manifest.json"))?;
    let [image] = manifest.as_array().unwrap().as_slice() else { panic!("{manifest}") };
    assert_eq!(image["RepoTags"], json!(["registry.example/podpolicy:1"]));
    let [layer] = image["Layers"].as_array().unwrap().as_slice() else { panic!("{manifest}") };
    let (layer, config) = (unpacked.join(layer.as_str().unwrap()), unpacked.join(image["Config"].as_str().unwrap()));
    assert_eq!(fs::read_dir(&unpacked)?.count(), 3, "{manifest}");
    assert_eq!(config.file_stem().unwrap().to_str(), Some(digest(&config)?.as_str()));

    let config = json_file(&config)?;
    assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", digest(&layer)?)]));
    let files = folder.path().join("files");
    unpack(&layer, &files)?;
    let names: Vec<_> = fs::read_dir(&files)?.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["podpolicy"]);
    assert_eq!(fs::metadata(files.join("podpolicy"))?.permissions().mode() & 0o7777, 0o755);
    assert_eq!(digest(&files.join("podpolicy"))?, digest(&binary)?);
    Ok(())
}

#[test]
fn same_binary_gives_the_same_bytes() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let mut digests = Vec::new();
    for (name, mode, mask) in [("a", 0o700, "077"), ("b", 0o755, "022")] {
        let copy = folder.path().join(name);
        fs::copy(static_binary()?, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
        let archive = folder.path().join(format!("{name}.tar"));
        let script = format!("umask {mask} && e2e/image.sh {} {}", copy.display(), archive.display());
        output(Command::new("bash").args(["-c", &script]))?;
        digests.push(digest(&archive)?);
    }
    assert_eq!(digests[0], digests[1]);
    Ok(())
}

#[test]
fn binary_that_could_not_run_in_the_image_is_refused() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let archive = folder.path().join("image.tar");
    for (binary, word) in
        [(Path::new("/bin/bash"), "dynamic loader"), (Path::new("Cargo.toml"), "no program"), (Path::new("nowhere"), "not exist")]
    {
        let error = output(Command::new("e2e/image.sh").arg(binary).arg(&archive)).expect_err(word).to_string();
        assert!(error.contains(word) && !archive.exists(), "{error}");
    }
    Ok(())
}

#[test]
fn dockerfile_and_recipe_say_the_same() -> anyhow::Result<()> {
    let read = |file: &str| fs::read_to_string(root().join(file)).with_context(|| file.to_owned());
    let (dockerfile, toolchain) = (read("Dockerfile")?, read("rust-toolchain.toml")?);
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{channel}-alpine ")), "another Rust than rust-toolchain.toml's");

    let folder = TempDir::new()?;
    let archive = folder.path().join("image.tar");
    output(Command::new("e2e/image.sh").args([&static_binary()?, &archive]))?;
    unpack(&archive, folder.path())?;
    let image = &json_file(&folder.path().join("manifest.json"))?[0];
    let config = &json_file(&folder.path().join(image["Config"].as_str().unwrap()))?["config"];
    let says = |line: String| assert!(dockerfile.contains(&line), "the Dockerfile does not say {line}");
    says(format!("USER {}\n", config["User"].as_str().unwrap()));
    says(format!("ENTRYPOINT {}\n", config["Entrypoint"]));
    says(format!("WORKDIR {}\n", config["WorkingDir"].as_str().unwrap()));
    let labels: BTreeMap<String, String> = serde_json::from_value(config["Labels"].clone())?;
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    for (key, value) in labels {
        says(format!("{key}={value}"));
    }
    Ok(())
}

/// A static program that is there anyway.
fn static_binary() -> anyhow::Result<std::path::PathBuf> {
    Ok(tools()?.join("kustomize"))
}

fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    output(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder)).map(drop)
}

fn digest(file: &Path) -> anyhow::Result<String> {
    let text = output(Command::new("sha256sum").arg(file))?;
    Ok(text.split(' ').next().unwrap().to_owned())
}

fn json_file(file: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
}
