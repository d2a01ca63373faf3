//! `larder tail`: prints decisions of a running larder as they are made.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin::{AdminArgs, percent_encoded};
use super::{fail, parse_duration_text, print};

#[derive(Args, Debug)]
pub(super) struct TailArgs {
    /// Only requests of the route with this name
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only requests with this text in their Cache-Status: hit, stored, uri-miss …
    #[arg(long, value_name = "TEXT")]
    outcome: Option<String>,
    /// Only paths that start with this
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only requests of this client address
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Only requests that took longer than this, such as 50ms
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_text)]
    slower: Option<String>,
    /// Print the JSON of the admin listener, one line per request
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &TailArgs, config: &Path) -> ExitCode {
    let mut failure = None;
    let show = |event: &str, data: &str| {
        let line = match (event, args.json) {
            (_, true) => format!("{data}\n"),
            (event, false) => {
                serde_json::from_str(data).map_or_else(|_| String::new(), |data| format_event(event, &data))
            }
        };
        // A closed pipe (`| head`) ends it.
        failure = print(&line).err();
        failure.is_none()
    };
    let followed = args.admin.client(config).and_then(|client| client.follow(&args.target(), show));
    match followed {
        Ok(()) => failure.unwrap_or(ExitCode::SUCCESS),
        Err(error) => fail(1, error),
    }
}

impl TailArgs {
    fn target(&self) -> String {
        let client = self.client.map(|client| client.to_string());
        let parameters = [
            ("route", &self.route),
            ("outcome", &self.outcome),
            ("path", &self.path),
            ("client", &client),
            ("slower", &self.slower),
        ];
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let given: Vec<String> =
            given.map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        format!("/decisions?{}", given.join("&"))
    }
}

/// One line of text. Nothing in it acts on a terminal.
fn format_event(event: &str, data: &Value) -> String {
    let text = |key: &str| data[key].as_str().unwrap_or("-").escape_debug().to_string();
    if event == "skipped" {
        return format!("… {} more (sampled)\n", data["skipped"]);
    }
    let time = text("at").get(11..23).unwrap_or_default().to_owned();
    let cache = text("cache");
    let cache = cache.strip_prefix("larder; ").unwrap_or(&cache);
    format!(
        "{time}  {}  {:>8.1} ms  {} {}  [{cache}]  {}\n",
        data["status"],
        data["millis"].as_f64().unwrap_or_default(),
        text("method"),
        text("target"),
        text("route"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_what_happened_and_no_escapes() {
        let data = json!({
            "at": "2026-03-01T10:00:01.234Z", "method": "GET", "target": "/a\u{1b}[2J", "route": null, "status": 200,
            "cache": "larder; hit; ttl=3", "millis": 1.25,
        });
        let line = "10:00:01.234  200       1.2 ms  GET /a\\u{1b}[2J  [hit; ttl=3]  -\n";
        assert_eq!(format_event("decision", &data), line);
        assert_eq!(format_event("skipped", &json!({"skipped": 7})), "… 7 more (sampled)\n");
    }
}
