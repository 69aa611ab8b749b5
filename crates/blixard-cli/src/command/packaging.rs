//! What a packager takes from the program itself: completions of shells, and pages of the manual.
//!
//! Owns: their names and where they go. Refuses to know: the commands; both are made of their definition.
//! Neither needs a daemon.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::CommandFactory as _;
use clap_complete::aot::{Bash, Fish, Generator, Zsh};

use crate::args::{Cli, Shell};
use crate::error::{ErrorKind, Failure};

const PROGRAM: &str = "blixard";

/// A page cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual to {}", folder.display())]
struct ManualError {
    folder: PathBuf,
    source: io::Error,
}

/// Prints the script that completes command lines in a shell.
pub(super) fn completions(shell: Shell, out: &mut dyn Write) -> Result<(), Failure> {
    match shell {
        Shell::Bash => script(&Bash, out),
        Shell::Zsh => script(&Zsh, out),
        Shell::Fish => script(&Fish, out),
    }
}

fn script(shell: &impl Generator, out: &mut dyn Write) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.set_bin_name(PROGRAM);
    command.build();
    Ok(shell.try_generate(&command, out)?)
}

/// Writes a page for each command, `blixard-vm-list.1` and so on.
pub(super) fn manual(folder: &Path) -> Result<(), Failure> {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|source| {
        Failure::new(ErrorKind::Internal, ManualError { folder: folder.to_owned(), source })
            .hint("is the folder yours to write to, and is there room?")
    })
}
