//! `podpolicy compile`: the objects without an operator.

use std::process::{Command, Stdio};

use anyhow::Context as _;
use podpolicy_e2e::objects::apply;
use podpolicy_e2e::program;

use crate::scene::{Scene, team};

#[tokio::test]
async fn compiled_objects_give_pods_their_settings_without_an_operator() -> anyhow::Result<()> {
    let scene = Scene::set("compile").await?;
    let folder = tempfile::tempdir()?;
    let policy =
        format!("{{ apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{ name: standard }}, spec: {} }}", team("shop"));
    std::fs::write(folder.path().join("policy.yaml"), policy)?;
    let output = Command::new(program()?).args(["compile", "-n", scene.name(), "-p"]).arg(folder.path()).stdin(Stdio::null()).output()?;
    let (objects, errors) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    apply(&scene.client, "default", &objects).await.with_context(|| objects.clone())?;
    scene.team_at_creation(Some("shop")).await?;
    // An operator takes over what it finds, and knows that it is not wanted.
    let _operator = scene.native().await?;
    scene.wait_for_objects(false).await
}

#[test]
fn commands_are_applied_with_a_note_and_protected_keys_are_not() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let spec = "{selector: {}, labels: {team: shop, ours: 'yes'}, containers: [{lifecycle: {preStop: {exec: {command: [drain-now]}}}}]}";
    let policy =
        format!("{{apiVersion: podpolicy.dev/v1alpha1, kind: PodPolicy, metadata: {{name: standard, namespace: shop}}, spec: {spec}}}");
    std::fs::write(folder.path().join("policy.yaml"), policy)?;
    let compile = |more: &[&str]| -> anyhow::Result<(String, String)> {
        let output = Command::new(program()?).args(["compile", "-p"]).arg(folder.path()).args(more).stdin(Stdio::null()).output()?;
        assert!(output.status.success(), "{output:?}");
        Ok((String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let (objects, notes) = compile(&[])?;
    assert!(objects.contains("drain-now") && objects.contains("ours"), "{objects}");
    assert!(notes.contains("PodPolicy shop/standard runs commands in pods"), "{notes}");
    let (objects, _) = compile(&["--protect-keys", "ours,theirs"])?;
    assert!(objects.contains("team") && !objects.contains("ours"), "{objects}");
    Ok(())
}

#[test]
fn mistakes_in_files_are_named_and_end_with_2() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policy.yaml");
    std::fs::write(
        &file,
        "---\n# nothing\n---\napiVersion: podpolicy.dev/v1alpha1\nkind: PodPolicy\nmetadata: {name: a}\nspec: {selector: {}, lables: {}}\n",
    )?;
    let output = Command::new(program()?).args(["compile", "-p"]).arg(&file).stdin(Stdio::null()).output()?;
    let errors = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(errors.contains(&format!("{}:", file.display())) && errors.contains(": PodPolicy a: spec.lables: unknown field"), "{errors}");
    Ok(())
}
