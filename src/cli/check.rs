//! `larder check`: all that is wrong with a configuration, or what it says about each route. Starts nothing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Config, Overrides, show_duration};
use crate::policy::Route;
use crate::policy::route::{Credential, Mode, Ttl};
use crate::policy::template::Template;

/// `overrides` are what flags and variables say in place of the file.
pub fn run(path: &Path, overrides: &Overrides) -> ExitCode {
    let out = match Config::load_with(path, overrides) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("{warning}");
            }
            format!("{}: {}\n{}", path.display(), headline(&config), table(&config))
        }
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    match std::io::stdout().write_all(out.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn headline(config: &Config) -> String {
    let routes = match config.routes.len() {
        0 => "no routes: everything passes uncached".to_owned(),
        1 => "1 route".to_owned(),
        many => format!("{many} routes"),
    };
    let warnings = match config.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        many => format!(", {many} warnings"),
    };
    format!("no errors{warnings}; {routes}")
}

fn table(config: &Config) -> String {
    let width =
        config.routes.iter().map(|route| route.path.as_str().chars().count()).max().unwrap_or(0).min(60);
    config.routes.iter().fold(String::new(), |mut out, route| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "  {:width$}  {}", route.path.as_str(), summary(route));
        out
    })
}

fn summary(route: &Route) -> String {
    let ttl = match route.ttl {
        Ttl::For(duration) => format!("ttl {}", show_duration(duration)),
        Ttl::Upstream => "ttl upstream".to_owned(),
        Ttl::UntilPurged => "until purged".to_owned(),
        Ttl::Never => "GETs pass".to_owned(),
    };
    let mut parts = match route.mode {
        Mode::On => vec![ttl],
        Mode::Observe => vec!["observe".to_owned(), ttl],
        Mode::Off => vec!["off".to_owned()],
    };
    match &route.per {
        Some(Credential::Authorization) => parts.push("per authorization".to_owned()),
        Some(Credential::Cookie(name)) => parts.push(format!("per cookie.{name}")),
        Some(Credential::Header(name)) => parts.push(format!("per header.{name}")),
        None if route.shared => parts.push("shared".to_owned()),
        None => {}
    }
    if !route.tags.is_empty() {
        parts.push(format!("tags {}", list(&route.tags)));
    }
    match route.purges.as_deref() {
        Some([]) => parts.push("writes purge nothing".to_owned()),
        Some(purges) => parts.push(format!("purges {}", list(purges))),
        None => {}
    }
    parts.join("; ")
}

fn list(templates: &[Template]) -> String {
    let names: Vec<&str> = templates.iter().map(Template::as_str).collect();
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{headline, table};
    use crate::config::{Config, Overrides};

    #[test]
    fn the_summary_says_what_each_route_does() {
        let text = "upstream: http://127.0.0.1:3000
routes:
  - {path: /a, ttl: 90s, tags: [a], shared: true}
  - {path: '/a/{id}', per: authorization, mode: observe}
  - {path: '/a/{id}/b', purges: [a]}
  - {path: /c, ttl: none, tags: [c], purges: [], purged_by: admin}
  - {path: /d, mode: off}
";
        let config =
            Config::parse(text, "proxy.yaml", &|_| None, &Overrides::default()).expect("a right file");
        assert_eq!(headline(&config), "no errors; 5 routes");
        assert_eq!(
            table(&config),
            "  /a         ttl 90s; shared; tags [a]
  /a/{id}    observe; ttl upstream; per authorization
  /a/{id}/b  GETs pass; purges [a]
  /c         until purged; tags [c]; writes purge nothing
  /d         off
"
        );
    }
}
