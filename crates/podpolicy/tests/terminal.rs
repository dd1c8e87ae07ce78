//! What a person sees at a terminal, and a program does not.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod folder;

use std::{
    fs::{self, File},
    io::{self, Read},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use folder::{Folder, POD, POLICY, RENDERED};
use nix::pty::{Winsize, openpty};

/// A terminal of 80 columns: its end for a program, and the other.
fn terminal() -> (Stdio, File) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    (pty.slave.into(), pty.master.into())
}

/// All that a program has written to the terminal.
fn shown(mut screen: File) -> String {
    let mut bytes = Vec::new();
    // How the end of a terminal whose program is gone reads on Linux.
    if let Err(error) = screen.read_to_end(&mut bytes) {
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32), "{error}");
    }
    String::from_utf8(bytes).unwrap()
}

fn podpolicy(folder: &Folder, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podpolicy"));
    command.args(arguments.split(' ')).current_dir(folder.0.path()).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// What a rendering tells of its progress that has to wait for a file, and what it prints.
fn slow_render(stderr: Stdio) -> String {
    let folder = Folder::with(&[("policy.yaml", POLICY), ("a.yaml", POD)]);
    let slow = folder.0.path().join("slow.yaml");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    let mut command = podpolicy(&folder, "render -p policy.yaml a.yaml slow.yaml");
    let child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    // The command holds the other end of the terminal as long as it lives.
    drop(command);
    // Nothing is waited for here: that it takes so long is what is told.
    thread::sleep(Duration::from_millis(600));
    fs::write(&slow, POD).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{RENDERED}---\n{RENDERED}"));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn progress_is_told_at_a_terminal_and_taken_away() {
    let (stderr, screen) = terminal();
    slow_render(stderr);
    let shown = shown(screen);
    assert!(shown.contains("podpolicy: reading 2 of 2 files"), "{shown:?}");
    let end = shown.rsplit('\r').next().unwrap();
    assert_eq!(end, "\u{1b}[2K", "the line is clear at the end: {shown:?}");
    assert_eq!(slow_render(Stdio::piped()), "", "a program is told nothing");
}

#[test]
fn findings_are_in_colour_at_a_terminal() {
    let folder = Folder::with(&[("a.yaml", POD)]);
    let check = |variable: Option<(&str, &str)>| -> io::Result<String> {
        let (stdout, screen) = terminal();
        let mut command = podpolicy(&folder, "check a.yaml");
        let mut child = command.envs(variable).stdout(stdout).stderr(Stdio::null()).spawn()?;
        drop(command);
        let shown = shown(screen);
        assert_eq!(child.wait()?.code(), Some(1), "{shown}");
        Ok(shown)
    };
    let (coloured, plain) = (check(None).unwrap(), check(Some(("NO_COLOR", "1"))).unwrap());
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    assert!(plain.contains("a.yaml:") && !plain.contains('\u{1b}'), "{plain:?}");
}
