//! `larder schema`: the JSON Schema of `proxy.yaml`, for editors.

use std::io::Write;
use std::process::ExitCode;

use crate::config;

pub fn run() -> ExitCode {
    // Indented, as it stands in `config/proxy.schema.json`.
    let written = writeln!(std::io::stdout(), "{:#}", config::schema());
    // A reader that has seen enough (`| head`) is no failure worth a message.
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
