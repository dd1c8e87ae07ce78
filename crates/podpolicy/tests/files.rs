//! The command line on files, as a user runs it: what it prints, what it writes, and its exit codes. No cluster is needed.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod folder;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Command, Stdio},
};

use folder::{Folder, POD, POLICY, RENDERED};

#[test]
fn render_prints_manifests_with_the_policies_applied() {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("pods/a.yaml", POD), ("pods/b/c.json", "{\"a\": 1}")]);
    folder.run("render -p policy.yaml pods/a.yaml", "").has(0, RENDERED);
    folder.run("render -p policy.yaml -", POD).has(0, RENDERED);
    folder.run("render -p policy.yaml pods", "").has(0, RENDERED).tells("hold no Kubernetes object: pods/b/c.json");
    folder.run("render -p policy.yaml pods/a.yaml pods/b/c.json", "").has(0, &format!("{RENDERED}---\n{{\"a\": 1}}"));
    folder.run("render .", "").has(0, &format!("{RENDERED}---\n{POLICY}"));
    assert_eq!(folder.read("pods/a.yaml"), POD, "nothing is written");
}

#[test]
fn write_edits_what_changes_and_keeps_permissions_and_links() {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("a.yaml", POD), ("done.yaml", RENDERED)]);
    let path = |name: &str| folder.0.path().join(name);
    fs::set_permissions(path("a.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a.yaml", path("link.yaml")).unwrap();
    let before = fs::metadata(path("done.yaml")).unwrap().modified().unwrap();
    folder.run("render --write -p policy.yaml link.yaml done.yaml", "").has(0, "").tells("link.yaml changed");
    assert_eq!(folder.read("a.yaml"), RENDERED);
    assert!(fs::symlink_metadata(path("link.yaml")).unwrap().is_symlink());
    assert_eq!(fs::metadata(path("a.yaml")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(path("done.yaml")).unwrap().modified().unwrap(), before, "an unchanged file is not written");
    let names: Vec<_> = fs::read_dir(folder.0.path()).unwrap().collect();
    assert_eq!(names.len(), 4, "nothing is left behind: {names:?}");
    folder.run("diff -p policy.yaml .", "").has(0, "");
}

#[test]
fn diff_is_a_patch_that_makes_what_render_writes() {
    let crlf = POD.replace('\n', "\r\n");
    let files = [("policy.yaml", POLICY), ("pods/a.yaml", POD), ("pods/crlf.yaml", &crlf), ("pods/no-end.yaml", POD.trim_end())];
    let (patched, written) = (Folder::with(&files), Folder::with(&files));
    let diff = patched.run("diff -p policy.yaml ./pods", "");
    assert_eq!(diff.code, Some(1), "{}", diff.stderr);
    written.run("render --write -p policy.yaml ./pods", "").has(0, "");
    let mut git = Command::new("git").args(["apply", "-"]).current_dir(patched.0.path()).stdin(Stdio::piped()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(diff.stdout.as_bytes()).unwrap();
    assert!(git.wait().unwrap().success(), "{}", diff.stdout);
    for name in ["pods/a.yaml", "pods/crlf.yaml", "pods/no-end.yaml"] {
        assert_eq!(patched.read(name), written.read(name), "{name}");
        assert_ne!(patched.read(name), files.iter().find(|file| file.0 == name).unwrap().1);
    }
}

#[test]
fn what_git_ignores_hidden_files_and_links_are_not_read() {
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        (".gitignore", "vendor/\n"),
        ("m/vendor/a.yaml", POD),
        ("m/.hidden/a.yaml", POD),
        ("m/notes.txt", POD),
        ("outside/a.yaml", POD),
        ("m/.gitignore", "vendor/\n"),
    ]);
    symlink("../outside", folder.0.path().join("m/out")).unwrap();
    symlink("../m", folder.0.path().join("m/loop")).unwrap();
    folder.run("diff -p policy.yaml m", "").has(0, "");
}

#[test]
fn policy_named_twice_applies_once() {
    let folder = Folder::with(&[("policies/policy.yaml", POLICY), ("a.yaml", RENDERED)]);
    folder.run("diff -p policies -p policies/policy.yaml . ./a.yaml", "").has(0, "");
    folder.write("copy.yaml", POLICY);
    folder.run("diff -p policies .", "").has(2, "").tells("ClusterPodPolicy standard is there twice");
}

#[test]
fn typo_in_a_policy_is_shown_with_its_line_and_what_may_be_meant() {
    let policy = POLICY.to_owned() + "  containers:\n  - livenesProbe: {httpGet: {port: 80}}\n";
    let folder = Folder::with(&[("policy.yaml", &policy), ("a.yaml", POD)]);
    let ran = folder.run("render -p policy.yaml a.yaml", "");
    ran.has(2, "")
        .tells("policy.yaml:9:5: ClusterPodPolicy standard: spec.containers[0].livenesProbe: unknown field; did you mean livenessProbe?");
    ran.tells("\n9 |   - livenesProbe: {httpGet: {port: 80}}\n  |     ^\n");
}

#[test]
fn refusals_are_told_with_file_and_line() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {team: web}}\n";
    let folder = Folder::with(&[("policy.yaml", POLICY), ("a.yaml", POD), ("service.yaml", service)]);
    let ran = folder.run("render -p policy.yaml a.yaml service.yaml", "");
    ran.has(0, &(RENDERED.replace("  labels:\n    team: shop\n", "") + service));
    ran.tells(
        "warning: a.yaml:2:1: Pod default/a: labels[team]: ClusterPodPolicy standard is refused: Service default/web selects on team",
    );
}

#[test]
fn namespace_is_that_of_the_object_or_the_given_one() {
    let policy = POLICY.replace("ClusterPodPolicy", "PodPolicy").replace("name: standard", "name: standard, namespace: bank");
    let folder = Folder::with(&[("policy.yaml", &policy), ("a.yaml", POD)]);
    folder.run("render -p policy.yaml a.yaml", "").has(0, POD);
    folder.run("render -p policy.yaml -n bank a.yaml", "").has(0, RENDERED);
}

#[test]
fn error_in_one_file_prints_nothing_and_writes_the_others() {
    let broken = "apiVersion: v1\nkind: Pod\nmetadata: [\n";
    let folder = Folder::with(&[("policy.yaml", POLICY), ("m/a.yaml", POD), ("m/b.yaml", broken)]);
    folder.run("render -p policy.yaml m", "").has(2, "").tells("error: m/b.yaml:3:11: not YAML");
    folder.run("render --write -p policy.yaml m", "").has(2, "").tells("m/a.yaml changed");
    assert_eq!((folder.read("m/a.yaml"), folder.read("m/b.yaml")), (RENDERED.to_owned(), broken.to_owned()));
    folder.run("diff -p policy.yaml m", "").has(2, "");
}

#[test]
fn files_of_a_folder_that_are_no_manifests_are_passed_over() {
    let template = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}: x\n{{- if }}\n";
    let folder =
        Folder::with(&[("policy.yaml", POLICY), ("m/templates/a.yaml", template), ("m/tsconfig.json", "{ // a\n"), ("m/a.yaml", POD)]);
    folder.write("m/binary.yaml", b"\x7fELF\0\xff");
    let ran = folder.run("render --write -p policy.yaml m", "");
    for words in ["m/templates/a.yaml:", "helm template", "m/tsconfig.json:1:", "m/binary.yaml:1:6: not UTF-8"] {
        ran.has(0, "").tells(words);
    }
    assert_eq!((folder.read("m/a.yaml"), folder.read("m/templates/a.yaml")), (RENDERED.to_owned(), template.to_owned()));
    folder.run("render -p policy.yaml m/templates/a.yaml", "").has(2, "").tells("helm template");
}

#[test]
fn charts_are_passed_over_and_named() {
    let template = POD.replace("name: a #", "name: \"{{ .Release.Name }}\" #");
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        ("m/a.yaml", POD),
        ("m/chart/Chart.yaml", "apiVersion: v2\nname: chart\nversion: 1.0.0\n"),
        ("m/chart/values.yaml", "replicas: 1\n"),
        ("m/chart/templates/a.yaml", &template),
        ("m/chart/templates/b.yaml", "{{- if .Values.b }}\na: b\n{{- end }}\n"),
    ]);
    folder
        .run("render -p policy.yaml m", "")
        .has(0, RENDERED)
        .tells("warning: m/chart is a Helm chart and is passed over; render it first");
    folder.run("render --write -p policy.yaml m", "").has(0, "");
    assert_eq!(folder.read("m/chart/templates/a.yaml"), template);
    folder.run("render -p policy.yaml m/chart", "").has(2, "").tells("m/chart: a Helm chart, whose templates are no manifests yet");
    let named = folder.run("render -p policy.yaml m/chart/templates/a.yaml", "");
    assert_eq!(named.code, Some(0), "a file that is named is meant: {}", named.stderr);
}

#[test]
fn parts_of_kustomizations_are_passed_over_and_named() {
    let kustomization = "resources: [a.yaml]
patches:
- path: patch.yaml
- patch: '[]'
patchesStrategicMerge: [old-patch.yaml]
configMapGenerator:
- {name: c, files: [config.json, key=data/other.yaml], literals: [a=b]}
helmCharts: [{name: x, valuesFile: values.yaml}]
";
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        ("m/kustomization.yaml", kustomization),
        ("m/a.yaml", POD),
        ("m/patch.yaml", POD),
        ("m/old-patch.yaml", POD),
        ("m/config.json", "{\"kind\": \"a\", \"apiVersion\": \"b\"}"),
        ("m/data/other.yaml", POD),
        ("m/values.yaml", "a: b\n"),
        ("other/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../m]\n"),
    ]);
    let ran = folder.run("render -p policy.yaml m other", "");
    ran.has(0, RENDERED).tells(
        "m/kustomization.yaml: what it uses as patches or data is passed over (m/config.json, m/data/other.yaml, m/old-patch.yaml, m/patch.yaml, m/values.yaml)",
    );
    assert!(!ran.stderr.contains("other/kustomization"), "{}", ran.stderr);
    folder.write("m/kustomization.yaml", "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\nresources: [\n");
    folder.run("render -p policy.yaml m", "").has(2, "").tells("error: m/kustomization.yaml:");
}

#[test]
fn what_kustomizations_set_is_not_in_the_files_and_said() {
    let folder =
        Folder::with(&[("policy.yaml", POLICY), ("m/a.yaml", POD), ("m/kustomization.yaml", "namespace: shop\nresources: [a.yaml]\n")]);
    let ran = folder.run("render -p policy.yaml m", "");
    ran.has(0, RENDERED).tells("that kustomizations set are not in the files, so that other policies may apply (m/kustomization.yaml)");
}

#[test]
fn nothing_is_printed_after_an_error() {
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        ("m/a.yaml", POD),
        ("m/bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {labels: {a: 1}}\nspec: {containers: []}\n"),
    ]);
    for command in ["diff", "render"] {
        folder
            .run(&format!("{command} -p policy.yaml m"), "")
            .has(2, "")
            .tells("m/bad.yaml:3:21: Pod default/: labels[a]: a string is wanted");
        folder
            .run(&format!("{command} -p policy.yaml m nowhere"), "")
            .has(2, "")
            .tells("error: nowhere: cannot be read: No such file or directory\n");
    }
    folder.run("render -p - -", "").has(2, "").tells("- is given twice");
}

#[test]
fn patches_name_files_as_git_does() {
    let names = ["with blank.yaml", "tab\t.yaml", "quote\".yaml", "sub/plain.yaml"];
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    let written = Folder::with(&[]);
    for name in names {
        folder.write(name, POD);
        written.write(name, POD);
    }
    let root = folder.0.path().display().to_string();
    for paths in [".", &root] {
        let diff = folder.run(&format!("diff -p policy.yaml {paths}"), "");
        assert_eq!(diff.code, Some(1), "{}", diff.stderr);
        for mut command in [Command::new("git"), Command::new("patch")] {
            let is_git = command.get_program() == "git";
            command.args(if is_git { vec!["apply", "-"] } else { vec!["-p1", "--silent"] });
            let mut child = command.current_dir(written.0.path()).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(diff.stdout.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "{}", diff.stdout);
            for name in names {
                assert_eq!(written.read(name), RENDERED, "{name}");
                written.write(name, POD);
            }
        }
    }
}

#[test]
fn texts_that_are_joined_say_what_they_said() {
    let open = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  key: |\n    value";
    let folder = Folder::with(&[("policy.yaml", POLICY), ("a.yaml", open), ("b.yaml", open)]);
    let wanted = format!("{}\n---\n{open}", open.replace('|', "|-"));
    folder.run("render -p policy.yaml a.yaml b.yaml", "").has(0, &wanted);
}

#[test]
fn what_is_no_yaml_is_told_with_what_it_seems_to_be() {
    let named = POD.replace("name: a #", "name: {{ .Values.name }} #");
    let conflict = format!("<<<<<<< HEAD\n{POD}=======\n{POD}>>>>>>> other\n");
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        ("template.yaml", &named),
        ("conflict.yaml", &conflict),
        ("bom.yaml", "\u{feff}a: b: c\n"),
    ]);
    folder.run("diff -p policy.yaml template.yaml", "").has(2, "").tells("template.yaml:5:10:").tells("it looks like a Helm template");
    folder.run("diff -p policy.yaml conflict.yaml", "").has(2, "").tells("a merge conflict is left in it");
    folder.run("diff -p policy.yaml bom.yaml", "").has(2, "").tells("bom.yaml:1:5:");
}

#[test]
fn lines_that_may_hold_credentials_are_not_shown() {
    let header = "spec:\n  containers:\n  - livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: Authorization, value: hunter5, x: y}]}}\n  selector: {}\n";
    let policy = format!("{}{header}", POLICY.split("spec:").next().unwrap());
    let folder = Folder::with(&[("policy.yaml", &policy), ("a.yaml", POD)]);
    let ran = folder.run("diff -p policy.yaml a.yaml", "");
    ran.has(2, "").tells("spec.containers[0].livenessProbe.httpGet.httpHeaders[0].x: unknown field");
    assert!(!ran.stderr.contains("hunter5"), "{}", ran.stderr);
}

#[test]
fn other_files_of_a_folder_are_named_in_one_line() {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("m/a.yaml", POD), ("m/empty.yaml", "# nothing\n")]);
    for number in 1..=8 {
        folder.write(&format!("m/values-{number}.yaml"), "a: b\n");
    }
    let ran = folder.run("diff -p policy.yaml m", "");
    assert_eq!(ran.code, Some(1));
    ran.tells(
        "hold no Kubernetes object: m/values-1.yaml, m/values-2.yaml, m/values-3.yaml, m/values-4.yaml, m/values-5.yaml and 3 more\n",
    );
    assert!(!ran.stderr.contains("empty.yaml"), "{}", ran.stderr);
}

#[test]
fn settings_that_a_version_of_kubernetes_drops_are_left_out_with_a_word() {
    const SIGNAL: &str = "\
apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata: {name: quit}
spec: {selector: {}, terminationGracePeriodSeconds: 60, containers: [{lifecycle: {stopSignal: SIGQUIT}}]}
";
    const LINUX: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  os: {name: linux}
  containers: [{name: web, image: web}]
";
    let folder = Folder::with(&[("policy.yaml", SIGNAL), ("pod.yaml", LINUX)]);
    let rendered = folder.run("render -p policy.yaml pod.yaml", "");
    assert!(rendered.stdout.contains("stopSignal: SIGQUIT") && rendered.stderr.is_empty(), "{}{}", rendered.stdout, rendered.stderr);

    let dropped = "Kubernetes 1.32 drops lifecycle.stopSignal; it needs Kubernetes 1.33 with the feature gate ContainerStopSignals";
    let rendered = folder.run("render -p policy.yaml --kubernetes-version 1.32 pod.yaml", "");
    assert_eq!(rendered.stdout, format!("{LINUX}  terminationGracePeriodSeconds: 60\n"));
    assert!(rendered.stderr.contains(dropped), "{}", rendered.stderr);
    folder.run("diff -p policy.yaml --kubernetes-version 1.32 pod.yaml", "").tells(dropped);

    // One field that the API server does not know would make it pass over all else in the object.
    for (version, words) in [("", "which is off by default"), (" --kubernetes-version 1.32", dropped)] {
        let compiled = folder.run(&format!("compile -p policy.yaml{version}"), "");
        assert!(compiled.stdout.contains("terminationGracePeriodSeconds"), "{}", compiled.stdout);
        assert!(!compiled.stdout.contains("SIGQUIT"), "{}", compiled.stdout);
        let left_out = "PodPolicy default/quit: containers[*].lifecycle.stopSignal is left out";
        assert!(compiled.stderr.contains(left_out) && compiled.stderr.contains(words), "{}", compiled.stderr);
    }
}
