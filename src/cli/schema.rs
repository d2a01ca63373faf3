//! `larder schema`: what `proxy.yaml` may say, for editors and for people.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::config;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON Schema, for editors
    #[default]
    Json,
    /// A page with every option, for people
    Markdown,
}

pub fn run(format: Format) -> ExitCode {
    let mut out = std::io::stdout();
    let written = match format {
        // Indented, as it stands in `config/proxy.schema.json`.
        Format::Json => writeln!(out, "{:#}", config::schema()),
        Format::Markdown => out.write_all(config::options().as_bytes()),
    };
    // A reader that has seen enough (`| head`) is no failure worth a message.
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
