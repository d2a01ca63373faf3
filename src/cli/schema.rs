//! `larder schema`: the reference of the configuration, for editors and for people.

use std::process::ExitCode;

use clap::ValueEnum;

use super::print_result;
use crate::config;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// JSON Schema, for editors
    #[default]
    Json,
    /// A page with every option
    Markdown,
}

pub(super) fn run(format: Format) -> ExitCode {
    let page = match format {
        // Indented like `config/proxy.schema.json`.
        Format::Json => format!("{:#}\n", config::schema()),
        Format::Markdown => config::options_page(),
    };
    print_result(&page)
}
