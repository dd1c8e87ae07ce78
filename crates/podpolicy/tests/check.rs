//! `podpolicy check` and `podpolicy explain -f`, as a user runs them: what they print in each format, and their exit codes. No cluster is needed.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod folder;

use std::{fs, path::Path};

use folder::Folder;
use serde_json::{Value, json};

/// A Deployment in which nothing is found.
const SOUND: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web, app.kubernetes.io/name: web}
    spec:
      containers:
      - name: web
        image: example.invalid/web:1
        ports: [{name: http, containerPort: 8080}]
        resources: {requests: {cpu: 100m, memory: 64Mi}}
";

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

const POLICY: &str = "apiVersion: podpolicy.dev/v1alpha1
kind: PodPolicy
metadata: {name: standard, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  labels: {team: shop}
  containers:
  - readinessProbe: {httpGet: {path: /ready, port: http}}
";

/// A Deployment with an error, a warning and a note.
fn unsound() -> String {
    SOUND
        .replace(", app.kubernetes.io/name: web", "")
        .replace("resources: {requests: {cpu: 100m, memory: 64Mi}}", "livenessProbe: {tcpSocket: {port: admin}}")
}

#[test]
fn what_cannot_be_read_is_a_finding_among_the_others() {
    let folder = Folder::with(&[("m/web.yaml", &unsound())]);
    for format in ["json", "sarif", "junit", "github", "table"] {
        let ran = folder.run(&format!("check -o {format} m nowhere"), "");
        assert_eq!(ran.code, Some(2), "{format}: {}", ran.stderr);
        for words in ["nowhere", "cannot be read: No such file or directory", "m/web.yaml"] {
            assert!(ran.stdout.contains(words), "{format}: {words} is not in {}", ran.stdout);
        }
    }
    let json: Value = serde_json::from_str(&folder.run("check -o json m nowhere", "").stdout).unwrap();
    assert!(json["findings"].as_array().unwrap().iter().any(|finding| finding["rule"] == "unreadable" && finding["file"] == "nowhere"));
}

#[test]
fn nothing_found_is_fine() {
    let folder = Folder::with(&[("web.yaml", SOUND)]);
    folder.run("check web.yaml", "").has(0, "").tells("no errors, no warnings and no notes in 1 file");
    folder.run("check .", "").has(0, "");
    folder.run("check -", SOUND).has(0, "");
}

#[test]
fn findings_are_shown_with_their_lines() {
    let folder = Folder::with(&[("m/web.yaml", &unsound())]);
    let wanted = "\
error[unknown-port-name]: Deployment shop/web: containers[web].livenessProbe.tcpSocket.port: the container has no port named admin; it declares http (8080)
  --> m/web.yaml:14:37
   |
14 |         livenessProbe: {tcpSocket: {port: admin}}
   |                                     ^^^^
   |
   = help: Name the port in the container's ports, or use its number.
";
    let ran = folder.run("check m", "");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains(wanted), "{wanted}\nis not in\n{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "colour is for terminals");
    ran.tells("1 error, 1 warning and 1 note in 1 file");
}

#[test]
fn what_is_found_of_several_objects_is_said_once_with_all_places() {
    let unnamed = SOUND.replace(", app.kubernetes.io/name: web", "");
    let other = unnamed.replace("name: web,", "name: other,");
    let folder = Folder::with(&[("m/a.yaml", &unnamed), ("m/b.yaml", &format!("{other}---\n{}", other.replace("other", "third")))]);
    let wanted = "\
note[no-name-label]: Deployment shop/web: labels: there is no label app.kubernetes.io/name
 --> m/a.yaml:8:7
  |
8 |       labels: {app: web}
  |       ^^^^^^
  |
  = note: the same at
          m/b.yaml:8:7: Deployment shop/other
          m/b.yaml:23:7: Deployment shop/third
  = help: Add the label to the pod template, or have a policy set it.

";
    folder.run("check m", "").has(0, wanted).tells("no errors, no warnings and 3 notes in 2 files");
}

#[test]
fn lines_that_may_hold_credentials_are_not_shown() {
    let pod =
        |rest: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers: [{{name: web, env: [{rest}]}}]\n");
    let secret = pod("{name: PASSWORD, value: s3cret}");
    let long = pod(&format!("{{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: s3cret, key: {}}}}}}}", "k".repeat(400)));
    let folder = Folder::with(&[("secret.yaml", &secret), ("long.yaml", &long), ("short.yaml", &pod(""))]);
    for (file, shown) in [("secret.yaml", false), ("long.yaml", false), ("short.yaml", true)] {
        let printed = folder.run(&format!("check {file}"), "").stdout;
        assert!(printed.contains(&format!("--> {file}:5:16\n")), "{printed}");
        assert_eq!((printed.contains("containers: [{name: web"), printed.contains("s3cret")), (shown, false), "{printed}");
    }
}

#[test]
fn the_exit_code_says_what_was_found() {
    let note = SOUND.replace(", app.kubernetes.io/name: web", "");
    let warning = SOUND.replace("{cpu: 100m, memory: 64Mi}", "{cpu: 100m}");
    let folder = Folder::with(&[("note.yaml", &note), ("warning.yaml", &warning), ("error.yaml", &unsound()), ("broken.yaml", "a: [\n")]);
    for (command, code) in [
        ("check note.yaml", 0),
        ("check --fail-on note note.yaml", 1),
        ("check warning.yaml", 1),
        ("check --fail-on error warning.yaml", 0),
        ("check --fail-on error error.yaml", 1),
        ("check --disable no-resource-requests warning.yaml", 0),
        ("check --disable no-name-label,no-resource-requests --disable unknown-port-name error.yaml", 0),
        ("check broken.yaml", 2),
        ("check --fail-on error warning.yaml broken.yaml", 2),
        ("check missing.yaml", 2),
        ("check", 2),
        ("check --output xml note.yaml", 2),
    ] {
        let ran = folder.run(command, "");
        assert_eq!(ran.code, Some(code), "{command}\n{}\n{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn policies_are_applied_before_it_is_looked() {
    let folder = Folder::with(&[("m/web.yaml", SOUND), ("m/service.yaml", SERVICE), ("policies/standard.yaml", POLICY)]);
    let ran = folder.run("check m", "");
    assert_eq!((ran.code, ran.stdout.matches("[no-readiness-probe]").count()), (Some(1), 1), "{}", ran.stdout);
    folder.run("check -p policies m", "").has(0, "");
    folder.run("check .", "").has(0, "").tells("in 3 files");
    folder.run("check -p policies -p policies/standard.yaml . ./m", "").has(0, "").tells("in 3 files");
}

#[test]
fn mistakes_in_policies_are_findings_and_the_others_count() {
    let mistaken = POLICY.replace("readinessProbe", "readinesProbe").replace("standard", "mistaken");
    let twice = format!("{POLICY}---\n{POLICY}");
    let folder = Folder::with(&[("m/web.yaml", SOUND), ("m/service.yaml", SERVICE), ("mistaken.yaml", &mistaken), ("twice.yaml", &twice)]);
    let ran = folder.run("check -o json -p mistaken.yaml -p twice.yaml m", "");
    let found: Vec<_> =
        findings(&ran.stdout).iter().map(|finding| pick(finding, &["rule", "file", "line", "column", "endColumn"])).collect();
    assert_eq!(
        found,
        [json!(["invalid-policy", "mistaken.yaml", 8, 5, 18]), json!(["invalid-policy", "twice.yaml", 12, 12, 16])],
        "{}",
        ran.stdout
    );
    assert_eq!(ran.code, Some(1));
    let text = ran.stdout.as_str();
    assert!(text.contains("readinesProbe: unknown field; did you mean readinessProbe?"), "{text}");
    assert!(text.contains("PodPolicy shop/standard is there twice"), "{text}");
}

#[test]
fn what_cannot_be_read_is_found_beside_the_rest() {
    let twice = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, name: b}\n";
    let folder = Folder::with(&[("m/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: [\n"), ("m/b.yaml", twice), ("m/web.yaml", &unsound())]);
    folder.write("m/c.yaml", b"apiVersion: v1\nkind: Pod\na: \"\xff\"\n");
    let ran = folder.run("check -o json m", "");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let found: Vec<_> = findings(&ran.stdout).iter().map(|finding| pick(finding, &["rule", "file", "line", "column"])).collect();
    for wanted in [
        json!(["unreadable", "m/a.yaml", 3, 11]),
        json!(["unreadable", "m/b.yaml", 3, 21]),
        json!(["unreadable", "m/c.yaml", 3, 5]),
        json!(["unknown-port-name", "m/web.yaml", 14, 37]),
    ] {
        assert!(found.contains(&wanted), "{wanted} is not in {found:?}");
    }
    let table = folder.run("check m/a.yaml", "").stdout;
    assert!(table.starts_with("error[unreadable]: not YAML"), "{table}");
    assert!(table.contains("--> m/a.yaml:3:11"), "{table}");
}

#[test]
fn rules_are_listed_explained_and_named_in_mistakes() {
    let folder = Folder::with(&[("web.yaml", SOUND)]);
    let list = folder.run("check --list", "");
    assert!(list.stdout.contains("\nno-readiness-probe            warning    a container behind a Service"), "{}", list.stdout);
    assert_eq!((list.code, list.stdout.lines().count()), (Some(0), 1 + rules().len()));
    let explained = folder.run("check --explain no-readiness-probe", "");
    for words in ["no-readiness-probe (warning)", "\nWhy: ", "\nWhat to do: ", "--disable no-readiness-probe"] {
        assert!(explained.stdout.contains(words), "{}", explained.stdout);
    }
    folder.run("check --explain no-readyness-probe", "").has(2, "").tells("did you mean no-readiness-probe?");
    folder.run("check --disable no-readyness-probe web.yaml", "").has(2, "").tells("did you mean no-readiness-probe?");
    folder
        .run("check --disable invalid-policy web.yaml", "")
        .has(2, "")
        .tells("--disable invalid-policy: this rule cannot be switched off");
}

#[test]
fn fields_are_judged_for_the_version_of_kubernetes() {
    let protocol = SOUND.replace("resources:", "readinessProbe: {httpGet: {port: http, protocol: HTTP2}}\n        resources:");
    let folder = Folder::with(&[("web.yaml", &protocol)]);
    let found = |flag: &str| findings(&folder.run(&format!("check -o json web.yaml{flag}"), "").stdout);
    let wanted = json!([
        "unsupported-field",
        14,
        48,
        "spec.template.spec.containers[0].readinessProbe.httpGet.protocol",
        "httpGet.protocol needs Kubernetes 1.37, and 1.33 does not know it; remove it, or check with --kubernetes-version 1.37"
    ]);
    for version in ["1.33", "v1.33.4", "1.33.4-gke.100"] {
        let found = found(&format!(" --kubernetes-version {version}"));
        let found: Vec<_> = found.iter().map(|finding| pick(finding, &["rule", "line", "column", "field", "message"])).collect();
        assert_eq!(json!(found), json!([wanted]));
    }
    let newest = found("");
    assert_eq!(newest, found(" --kubernetes-version 1.37"));
    assert_eq!(newest.iter().map(|finding| finding["rule"].as_str().unwrap()).collect::<Vec<_>>(), ["off-by-default"]);
    for format in ["table", "sarif", "junit", "github"] {
        let ran = folder.run(&format!("check -o {format} --kubernetes-version 1.30 web.yaml"), "");
        assert_eq!(ran.code, Some(1), "{format}");
        assert!(ran.stdout.contains("unsupported-field") && ran.stdout.contains("needs Kubernetes 1.37"), "{format}: {}", ran.stdout);
    }
}

#[test]
fn other_versions_of_kubernetes_are_an_error_of_all_commands() {
    let folder = Folder::with(&[("web.yaml", SOUND), ("policy.yaml", POLICY)]);
    for command in ["check web.yaml", "render web.yaml", "diff web.yaml", "explain -f web.yaml", "function"] {
        for (version, words) in [
            ("1.29", "the fields of Kubernetes 1.29 are not known; known are 1.30 to 1.37"),
            ("1.38", "known are 1.30 to 1.37"),
            ("newest", "\"newest\" is not a version of Kubernetes; write one such as 1.37"),
        ] {
            folder.run(&format!("{command} -p policy.yaml --kubernetes-version {version}"), "").has(2, "").tells(words);
        }
    }
    for command in ["render", "diff", "explain -f"] {
        let ran = |flag: &str| folder.run(&format!("{command} web.yaml -p policy.yaml{flag}"), "").stdout;
        let newest = ran("");
        assert!(newest.contains("team"), "{newest}");
        assert_eq!(ran(" --kubernetes-version 1.30"), newest);
    }
    folder.run("explain web --kubernetes-version 1.33", "").has(2, "").tells("--filename");
}

#[test]
fn annotation_switches_a_rule_off_for_its_object() {
    let annotated = unsound().replace(
        "namespace: shop}",
        "namespace: shop, annotations: {podpolicy.dev/check-ignore: \"unknown-port-name, no-resource-requests\"}}",
    );
    let folder = Folder::with(&[("a.yaml", &annotated), ("b.yaml", &unsound())]);
    folder.run("check --disable no-name-label a.yaml", "").has(0, "");
    let found = findings(&folder.run("check -o json .", "").stdout);
    assert_eq!(found.iter().map(|finding| finding["file"].as_str().unwrap()).collect::<Vec<_>>(), ["a.yaml", "b.yaml", "b.yaml", "b.yaml"]);
}

#[test]
fn json_has_all_of_a_finding() {
    let folder = Folder::with(&[("web.yaml", &unsound())]);
    let printed: Value = serde_json::from_str(&folder.run("check -o json web.yaml", "").stdout).unwrap();
    assert_eq!(printed["summary"], json!({ "files": 1, "errors": 1, "warnings": 1, "notes": 1 }));
    assert_eq!(
        printed["findings"][2],
        json!({
            "rule": "unknown-port-name", "severity": "error", "file": "web.yaml", "line": 14, "column": 37, "endLine": 14, "endColumn": 41,
            "object": "Deployment shop/web", "field": "containers[web].livenessProbe.tcpSocket.port",
            "message": "the container has no port named admin; it declares http (8080)",
            "remedy": "Name the port in the container's ports, or use its number.",
        })
    );
}

#[test]
fn sarif_is_as_its_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("sarif/schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let folder =
        Folder::with(&[("a b/web.yaml", &unsound()), ("a b/broken.yaml", "kind: Pod\napiVersion: v1\na: [\n"), ("sound.yaml", SOUND)]);
    for command in ["check -o sarif .", "check -o sarif sound.yaml"] {
        let log: Value = serde_json::from_str(&folder.run(command, "").stdout).unwrap();
        let errors: Vec<_> = validator.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }
    let log: Value = serde_json::from_str(&folder.run("check -o sarif .", "").stdout).unwrap();
    let run = &log["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let result = run["results"].as_array().unwrap().iter().find(|result| result["ruleId"] == "unknown-port-name").unwrap();
    let rule = &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
    assert_eq!((&rule["id"], &result["level"]), (&json!("unknown-port-name"), &json!("error")));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b/web.yaml");
    assert_eq!(place["region"], json!({ "startLine": 14, "startColumn": 37, "endLine": 14, "endColumn": 41 }));
    assert!(validator.iter_errors(&json!({ "version": "2.1.0", "runs": [{ "tool": {} }] })).next().is_some(), "the schema refuses nothing");
}

#[test]
fn junit_has_a_suite_for_each_file() {
    let hostile = unsound().replace("name: web, namespace", "name: \"<&\\e\\\"\", namespace");
    let folder = Folder::with(&[("a.yaml", &hostile), ("b.yaml", SOUND)]);
    let printed = folder.run("check -o junit a.yaml b.yaml", "").stdout;
    for line in [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
        "<testsuites name=\"podpolicy check\" tests=\"3\" failures=\"2\">",
        "  <testsuite name=\"a.yaml\" tests=\"2\" failures=\"2\">",
        "    <testcase name=\"unknown-port-name 14:37\" classname=\"a.yaml\">",
        "  <testsuite name=\"b.yaml\" tests=\"1\" failures=\"0\">",
        "    <testcase name=\"check\" classname=\"b.yaml\"/>",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    assert!(printed.contains("message=\"Deployment shop/&lt;&amp;\u{fffd}&quot;: containers[web].livenessProbe"), "{printed}");
    assert!(printed.contains("<system-out>a.yaml:8:7: note[no-name-label]"), "{printed}");
    let mut reader = quick_xml::Reader::from_str(&printed);
    reader.config_mut().check_end_names = true;
    loop {
        if let quick_xml::events::Event::Eof = reader.read_event().unwrap() {
            break;
        }
    }
}

#[test]
fn github_annotations_are_one_line_each() {
    let hostile = unsound().replace("name: web, namespace", "name: \"a\\n::error::b%\", namespace");
    let folder = Folder::with(&[("a,b.yaml", &hostile)]);
    let printed = folder.run("check -o github ./a,b.yaml", "").stdout;
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(
        lines[0].starts_with(
            "::notice file=a%2Cb.yaml,line=8,endLine=8,col=7,endColumn=13,title=no-name-label::Deployment shop/a%0A::error::b%25: labels: "
        ),
        "{printed}"
    );
    assert!(lines[1].starts_with("::warning file=a%2Cb.yaml,"), "{printed}");
    assert!(lines[2].starts_with("::error file=a%2Cb.yaml,line=14,endLine=14,col=37,endColumn=41,title=unknown-port-name::"), "{printed}");
}

#[test]
fn escapes_of_terminals_are_not_passed_on() {
    let hostile = unsound().replace("name: web, namespace", "name: \"a\\e[31m\", namespace");
    let folder = Folder::with(&[("a\u{1b}[31m.yaml", &hostile), ("b\u{1b}[31m.yaml", &hostile.replace("name: \"a", "name: \"b"))]);
    for format in ["table", "github", "junit", "json", "sarif"] {
        let printed = folder.run(&format!("check -o {format} ."), "").stdout;
        assert!(!printed.contains('\u{1b}'), "{format}\n{printed}");
    }
}

#[test]
fn the_page_has_every_rule() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/check.md");
    let page = fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once("<!-- rules -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of rules -->\n").unwrap();
    let rows: Vec<_> = rules().iter().map(|(id, severity, finds)| format!("| `{id}` | {severity} | {finds} |\n")).collect();
    let rows = rows.concat();
    let wanted = format!("{before}<!-- rules -->\n| Rule | Severity | Finds |\n|---|---|---|\n{rows}<!-- end of rules -->\n{after}");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &wanted).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap() == wanted,
        "docs/check.md does not have the rules: run `UPDATE=1 cargo test -p podpolicy --test check`"
    );
}

#[test]
fn explain_shows_the_pods_of_files() {
    let nobody = POLICY
        .replace("name: standard", "name: fallback")
        .replace("team: shop", "team: nobody")
        .replace("spec:\n", "spec:\n  priority: -10\n");
    let folder = Folder::with(&[("web.yaml", SOUND), ("policies/a.yaml", POLICY), ("policies/b.yaml", &nobody)]);
    let wanted = "\
Deployment shop/web (web.yaml:6:3)

POLICY                    STATE
PodPolicy shop/standard   pending
PodPolicy shop/fallback   pending

FIELD                            FROM                                                     IN THE FILE   VALUE
labels[team]                     PodPolicy shop/standard (over PodPolicy shop/fallback)   no            \"shop\"
containers[web].readinessProbe   PodPolicy shop/standard                                  no            {\"httpGet\":{\"path\":\"/ready\",\"port\":\"http\",\"scheme\":\"HTTP\"},\"initialDelaySeconds\":0,\"timeoutSeconds\":1,\"periodSeconds\":10,\"successThreshold\":1,\"failureThreshold\":3}

PodPolicy shop/fallback
  Overridden labels[team]: PodPolicy shop/standard sets it to \"shop\" and goes first (priority 0 over -10); give one of the two another priority, or remove the field from one
";
    let printed = folder.run("explain -f web.yaml -p policies", "");
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), wanted), "{}", printed.stderr);
    folder.run("explain web -f . -p policies", "").has(0, wanted);
    let flags = "explain web -f web.yaml -p policies --protect-keys team";
    let ran = folder.run(flags, "");
    assert!(ran.stdout.contains("team is among the keys that --protect-keys names"), "{}", ran.stdout);
    folder.run("explain deployment/web -p policies -f -", SOUND).has(0, &wanted.replace("(web.yaml", "(stdin"));
    folder.run("render --write -p policies web.yaml", "").has(0, "");
    let rendered = folder.run("explain -f web.yaml -p policies", "").stdout;
    assert!(rendered.contains("PodPolicy shop/standard   compliant"), "{rendered}");
    assert!(
        rendered.contains("\nlabels[team]                     the workload (over PodPolicy shop/fallback)   yes           \"shop\"\n"),
        "{rendered}"
    );
}

#[test]
fn explain_prints_the_pods_of_files_as_json_too() {
    let folder = Folder::with(&[
        ("web.yaml", &format!("{SOUND}---\n{}", SOUND.replace("name: web, namespace", "name: two, namespace"))),
        ("policy.yaml", POLICY),
    ]);
    let all: Value = serde_json::from_str(&folder.run("explain -f web.yaml -p policy.yaml -o json", "").stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let one: Value = serde_json::from_str(&folder.run("explain two -f web.yaml -p policy.yaml -o json", "").stdout).unwrap();
    assert_eq!(one, json!([all[1]]));
    assert_eq!(
        pick(&one[0], &["kind", "namespace", "pod", "file", "line", "column"]),
        json!(["Deployment", "shop", "two", "web.yaml", 21, 3])
    );
    assert_eq!(one[0]["policies"], json!([{ "policy": "PodPolicy shop/standard", "state": "pending", "findings": [] }]));
    assert_eq!(
        one[0]["fields"][0],
        json!({ "field": "labels[team]", "value": "shop", "source": "PodPolicy shop/standard", "overridden": [], "done": false })
    );
}

#[test]
fn explain_of_files_says_what_is_missing() {
    let folder = Folder::with(&[("web.yaml", SOUND), ("policy.yaml", POLICY), ("service.yaml", SERVICE), ("broken.yaml", "a: [\n")]);
    for (command, words) in [
        ("explain db -f web.yaml -p policy.yaml", "the files have no db; they have Deployment/web"),
        ("explain -f service.yaml -p policy.yaml", "the files have no pod"),
        ("explain -f web.yaml", "there is no PodPolicy"),
        ("explain -f broken.yaml -p policy.yaml", "broken.yaml:1:4: not YAML"),
        ("explain -f web.yaml -p policy.yaml --context a", "cannot be used with"),
        ("explain web -p policy.yaml", "--filename"),
        ("explain", "<POD>"),
    ] {
        folder.run(command, "").has(2, "").tells(words);
    }
}

/// The rules with their severities and what they find, as they are listed.
fn rules() -> Vec<(String, String, String)> {
    let list = Folder::with(&[]).run("check --list", "").stdout;
    let rule = |line: &str| {
        let (id, rest) = line.split_once(' ').unwrap();
        let (severity, finds) = rest.trim().split_once(' ').unwrap();
        (id.to_owned(), severity.to_owned(), finds.trim().to_owned())
    };
    list.lines().skip(1).map(rule).collect()
}

fn findings(printed: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(printed).unwrap()["findings"].as_array().unwrap().clone()
}

/// Some fields of an object, in that order.
fn pick(object: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| object[*field].clone()).collect()
}
