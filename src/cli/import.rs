//! `larder import`: prints a configuration made from that of another cache.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::suggest::print_draft;
use crate::config::{read_document, read_text};
use crate::draft::{Draft, import};

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// The configuration file to convert, such as nginx.conf, default.vcl or souin.yaml
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// File format [default: by extension]
    #[arg(long, value_enum)]
    kind: Option<CacheKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CacheKind {
    Nginx,
    /// Varnish
    Vcl,
    Souin,
}

pub(super) fn run(args: &ImportArgs) -> ExitCode {
    print_draft(import(&args.from, args.kind))
}

fn import(path: &Path, kind: Option<CacheKind>) -> Result<Draft, String> {
    let by_extension = || match path.extension()?.to_str()? {
        "conf" => Some(CacheKind::Nginx),
        "vcl" => Some(CacheKind::Vcl),
        "yaml" | "yml" | "json" => Some(CacheKind::Souin),
        _ => None,
    };
    let source = path.file_name().unwrap_or_default().to_string_lossy();
    let text = || read_text(path).map_err(|errors| errors.to_string());
    let at = |error: String| format!("{}: {error}", path.display());
    match kind.or_else(by_extension) {
        Some(CacheKind::Nginx) => import::from_nginx(&text()?, &source).map_err(at),
        Some(CacheKind::Vcl) => import::from_vcl(&text()?, &source).map_err(at),
        Some(CacheKind::Souin) => {
            import::from_souin(&read_document(path).map_err(|errors| errors.to_string())?, &source)
                .map_err(at)
        }
        None if source.starts_with("Caddyfile") || source.ends_with(".Caddyfile") => Err(format!(
            "{source}: the configuration of Caddy can't be read; nginx, Varnish and Souin can\n\
             `larder init --upstream URL` and `larder suggest` write a first proxy.yaml without it"
        )),
        None => Err(format!(
            "{source} is neither .conf (nginx), .vcl (Varnish) nor .yaml (Souin)\n\
             name its kind with --kind; other formats can't be read, and `larder init` starts without one"
        )),
    }
}
