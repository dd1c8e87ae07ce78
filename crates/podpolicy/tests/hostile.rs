//! Files that want to do harm, or that nobody meant to be read: a message with file and place, nothing written, and no more memory and time than
//! an ordinary file may take. The system ends what takes more.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod folder;

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use folder::{Folder, POD, POLICY, RENDERED, Ran};

/// The head of a pod, of two lines.
const HEAD: &str = "apiVersion: v1\nkind: Pod\n";

/// Memory that a run may have, in KiB, and seconds of a processor.
const LIMITS: &str = "ulimit -v 2000000; ulimit -t 60";

/// Runs the program within limits.
fn within_limits(folder: &Folder, command: &str) -> Ran {
    let shell = format!("{LIMITS}; exec '{}' {command}", env!("CARGO_BIN_EXE_podpolicy"));
    let mut bash = Command::new("bash");
    Ran::from(bash.args(["-c", &shell]).current_dir(folder.0.path()).stdin(Stdio::null()).output().unwrap())
}

/// A file that is named is refused with these words, and stays as it is; beside it in a folder, another one is still edited.
fn refused(name: &str, content: &[u8], words: &str) {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("m/good.yaml", POD)]);
    let file = format!("m/{name}.yaml");
    folder.write(&file, content);
    let ran = within_limits(&folder, &format!("render -p policy.yaml {file}"));
    ran.has(2, "").tells(&format!("error: {file}:"));
    ran.tells(words);
    let ran = within_limits(&folder, "render --write -p policy.yaml m");
    assert!(ran.code.is_some(), "{name}: {ran:?}");
    ran.tells(&format!("{file}:")).tells("m/good.yaml changed");
    assert!(fs::read(folder.0.path().join(&file)).unwrap() == content, "{name} is written");
    assert_eq!(folder.read("m/good.yaml"), RENDERED);
    assert_eq!(fs::read_dir(folder.0.path().join("m")).unwrap().count(), 2, "{name}: something is left behind");
}

fn bomb(merge: bool) -> String {
    let mut bomb = format!("{HEAD}a0: &a0 {{a: x, b: x, c: x}}\n");
    for level in 1..40 {
        let (alias, above) = (format!("*a{}", level - 1), level - 1);
        let content = if merge {
            format!("{{<<: [{}], n{above}: {alias}, m{above}: {alias}}}", [alias.as_str(); 9].join(", "))
        } else {
            format!("[{}]", [alias.as_str(); 9].join(", "))
        };
        _ = writeln!(bomb, "a{level}: &a{level} {content}");
    }
    bomb
}

#[test]
fn alias_bombs() {
    refused("bomb", bomb(false).as_bytes(), "aliases stand for more here than any manifest needs");
    refused("merge-bomb", bomb(true).as_bytes(), "aliases stand for more here than any manifest needs");
    let mut chain = format!("{HEAD}a0: &a0 [x]\n");
    for level in 1..3000 {
        _ = writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1);
    }
    refused("chain", chain.as_bytes(), "aliases stand for more here than any manifest needs");
    refused("endless", format!("{HEAD}a: &a [*a]\n").as_bytes(), ":3:8: an alias inside of what it stands for");
}

#[test]
fn ten_thousand_levels() {
    refused("flow", format!("{HEAD}a: {}", "[".repeat(10_000)).as_bytes(), ":3:132: not YAML");
    refused("closed", format!("{HEAD}a: {}{}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes(), ":3:132: not YAML");
    refused("maps", format!("{HEAD}a: {}", "{a: ".repeat(10_000)).as_bytes(), ":3:");
    refused("dashes", format!("{HEAD}a:\n{}", "- ".repeat(10_000)).as_bytes(), ":4:");
    let block: String = (0..10_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    refused("block", format!("{HEAD}{block}").as_bytes(), "not YAML");
    refused("questions", format!("{HEAD}{}", "? ".repeat(10_000)).as_bytes(), ":3:");
}

#[test]
fn what_is_no_text() {
    refused("utf8", &[HEAD.as_bytes(), b"a: \"\xff\""].concat(), ":3:5: not UTF-8");
    refused("latin1", &[HEAD.as_bytes(), b"# gr\xfc\xdfe\n"].concat(), ":3:5: not UTF-8");
    refused("surrogate", &[HEAD.as_bytes(), b"a: \xed\xa0\x80\n"].concat(), ":3:4: not UTF-8");
    let utf16: Vec<u8> = "\u{feff}apiVersion: v1\nkind: Pod\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused("utf16", &utf16, ":1:1: not UTF-8");
    refused("nul", &[HEAD.as_bytes(), b"a: \0"].concat(), ":3:4: a NUL byte");
    refused("elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0", ":1:8: a NUL byte");
    refused("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", ":1:2: not UTF-8");
    refused("bell", format!("{HEAD}a: \x07\n").as_bytes(), ":3:");
}

#[test]
fn what_is_there_twice() {
    refused("top", format!("{HEAD}a: 1\na: 2\n").as_bytes(), ":4:1: a is there twice");
    refused("quoted", format!("{HEAD}a: 1\n\"a\": 2\n").as_bytes(), ":4:1: a is there twice");
    refused("flow", format!("{HEAD}a: {{b: 1, c: 2, b: 3}}\n").as_bytes(), ":3:17: b is there twice");
    refused("deep", format!("{HEAD}a:\n- b:\n    c: 1\n    c: 2\n").as_bytes(), ":6:5: c is there twice");
    let many = (0..200).map(|number| format!("  k{number}: v\n")).collect::<Vec<_>>().concat();
    refused("many", format!("{HEAD}metadata:\n{many}  k7: v\n").as_bytes(), ":204:3: k7 is there twice");
    refused("json", b"{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"kind\": \"Pod\"}", ":1:37: kind is there twice");
}

#[test]
fn templates_among_manifests() {
    let template = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}: x\n{{- if .Values.a }}\n  labels: {}\n{{- end }}\n";
    refused("template", template.as_bytes(), "it looks like a Helm template: render the chart first");
    let jinja = "{% if a %}\napiVersion: v1\n{% endif %}\n";
    refused("jinja", jinja.as_bytes(), ":1:");
}

#[test]
fn huge_files() {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("m/good.yaml", POD)]);
    File::create(folder.0.path().join("m/huge.yaml")).unwrap().set_len((256 << 20) + 10).unwrap();
    within_limits(&folder, "render -p policy.yaml m/huge.yaml").has(2, "").tells("error: m/huge.yaml: larger than 256 MiB");
    within_limits(&folder, "render -p policy.yaml m").has(0, RENDERED).tells("warning: m/huge.yaml: larger than 256 MiB");
}

/// Nothing takes time that grows with the square of a file.
#[test]
fn long_files() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    let pod = |name: &str| POD.replace("name: a", &format!("name: {name}"));
    let pods: Vec<_> = (0..3000).map(|number| format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"p{number}\"}},\"spec\":{{\"containers\":[{{\"name\":\"a\"}}]}}}}")).collect();
    let keys = (0..100_000).map(|number| format!("  k{number}: v\n")).collect::<Vec<_>>().concat();
    for (name, text) in [
        ("line", POD.replace("- name: web", &format!("- name: web\n    args: [{}]", "x".repeat(5 << 20)))),
        ("documents", (0..3000).map(|number| pod(&format!("p{number}"))).collect::<Vec<_>>().join("---\n")),
        ("markers", format!("{}{POD}", "---\n".repeat(100_000))),
        ("keys", format!("{POD}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{keys}")),
        ("comments", format!("{}{POD}", "# x\n".repeat(500_000))),
        ("one-line", format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{}]}}", pods.join(","))),
    ] {
        folder.write(&format!("{name}.yaml"), &text);
        let ran = within_limits(&folder, &format!("render -p policy.yaml {name}.yaml"));
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
        assert_eq!(ran.stdout.matches("terminationGracePeriodSeconds").count(), text.matches("containers").count(), "{name}");
    }
}

#[test]
fn many_problems_and_notes_in_one_file() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {team: web}}\n---\n";
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: b, labels: {a: 1}}\nspec: {containers: [{name: a}]}\n";
    let text = format!("{}{service}{}", vec![POD; 5000].join("---\n"), vec![bad; 5000].join("---\n"));
    let folder = Folder::with(&[("policy.yaml", POLICY), ("many.yaml", &text)]);
    let ran = within_limits(&folder, "render -p policy.yaml many.yaml");
    ran.has(2, "");
    assert_eq!(ran.stderr.matches("Service default/web selects on team").count(), 5000);
    assert_eq!(ran.stderr.matches("a string is wanted, not 1").count(), 5000);
}

#[test]
fn links_that_go_round() {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("m/a.yaml", POD)]);
    let path = |name: &str| folder.0.path().join(name);
    symlink("loop-b.yaml", path("m/loop-a.yaml")).unwrap();
    symlink("loop-a.yaml", path("m/loop-b.yaml")).unwrap();
    symlink(".", path("m/self")).unwrap();
    symlink("../..", path("m/up")).unwrap();
    symlink("nowhere.yaml", path("m/dangling.yaml")).unwrap();
    symlink("/dev/zero", path("m/zero.yaml")).unwrap();
    fs::create_dir(path("m/folder.yaml")).unwrap();
    within_limits(&folder, "render -p policy.yaml m").has(0, RENDERED);
    for name in ["m/loop-a.yaml", "m/dangling.yaml"] {
        within_limits(&folder, &format!("render -p policy.yaml {name}")).has(2, "").tells(&format!("error: {name}: cannot be read"));
    }
    within_limits(&folder, "render -p policy.yaml m/zero.yaml").has(2, "").tells("m/zero.yaml: larger than 256 MiB");
}
