//! `larder completions` and `larder man`.

use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::{fail, print_result};

pub(super) fn completions(mut command: Command, shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "larder", &mut script);
    print_result(&String::from_utf8_lossy(&script))
}

/// Prints the page of larder, or writes the pages of all commands into `dir`.
pub(super) fn run(command: Command, dir: Option<&Path>) -> ExitCode {
    let mut page = Vec::new();
    let written = match dir {
        Some(dir) => std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir)),
        None => clap_mangen::Man::new(command).render(&mut page),
    };
    match written {
        Ok(()) => print_result(&String::from_utf8_lossy(&page)),
        Err(error) => fail(1, format_args!("failed to write the manual: {error}")),
    }
}
