//! `podpolicy completions` and `podpolicy man`: the command line as shells and `man` read it.

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::output;

/// What of the command line it reads.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the shell's script.
pub(crate) fn print(arguments: &Arguments, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "podpolicy", &mut script);
    output::print(&String::from_utf8(script).context("the script is no text")?)
}

/// Prints the manual page, in which each command is a section.
pub(crate) fn print_manual(command: &Command) -> Result<()> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("1");
    man.render(&mut page).context("the manual page cannot be made")?;
    for command in command.get_subcommands() {
        page.extend(format!(".SH \"PODPOLICY {}\"\n", command.get_name().to_uppercase()).into_bytes());
        let name = format!("podpolicy {}", command.get_name());
        let man = Man::new(command.clone().bin_name(name));
        man.render_synopsis_section(&mut page).context("the manual page cannot be made")?;
        man.render_description_section(&mut page).context("the manual page cannot be made")?;
        man.render_options_section(&mut page).context("the manual page cannot be made")?;
    }
    let mut page = String::from_utf8(page).context("the page is no text")?;
    for command in command.get_subcommands() {
        // Commands are sections of this page, not pages of their own.
        let name = command.get_name();
        page = page.replace(&format!("podpolicy\\-{name}(1)"), &format!("podpolicy {name}"));
    }
    output::print(&page)
}
