//! A folder of files, and the program run in it.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub const POLICY: &str = "apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: standard}
spec:
  selector: {}
  labels: {team: shop}
  terminationGracePeriodSeconds: 60
";

pub const POD: &str = "# A pod.
apiVersion: v1
kind: Pod
metadata:
  name: a # its name
spec:
  containers:
  - name: web
";

pub const RENDERED: &str = "# A pod.
apiVersion: v1
kind: Pod
metadata:
  name: a # its name
  labels:
    team: shop
spec:
  containers:
  - name: web
  terminationGracePeriodSeconds: 60
";

/// A folder with files in it.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(TempDir::new().unwrap());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// Runs a command line; the words are parted by blanks.
    pub fn run(&self, command: &str, stdin: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_podpolicy"))
            .args(command.split(' '))
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        Ran::from(child.wait_with_output().unwrap())
    }
}

#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    #[track_caller]
    pub fn has(&self, code: i32, stdout: &str) -> &Self {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), stdout), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub fn tells(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "{words} is not in\n{}", self.stderr);
        self
    }
}
