//! `larder tail`: prints decisions of a running larder as they are made, also after it was restarted.

use std::io::{Write as _, stderr};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::admin::{AdminArgs, AdminClient, RequestError, StreamEvent, percent_encoded};
use super::{fail, parse_duration_text, print};

/// Between attempts to connect again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

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
    /// Only requests of these callers: anonymous, a field such as authorization, or a fingerprint that was printed
    #[arg(long, value_name = "CALLER")]
    caller: Option<String>,
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
    let client = match args.admin.client(config) {
        Ok(client) => client,
        Err(error) => return fail(1, error),
    };
    let mut state = TailState::New;
    loop {
        let reason = match follow_once(args, &client, &mut state) {
            Ok(reason) => reason,
            Err(code) => return code,
        };
        if state == TailState::Open {
            state = TailState::Lost;
            let lost = || json!({"lost": reason});
            if let Err(code) = report(args, lost, &format!("{reason}; waiting for larder to come back")) {
                return code;
            }
        }
        sleep(RECONNECT_INTERVAL);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TailState {
    New,
    Open,
    Lost,
}

/// Prints decisions until the connection ends, and returns the reason. `Err`: there is nothing to wait for.
fn follow_once(args: &TailArgs, client: &AdminClient, state: &mut TailState) -> Result<String, ExitCode> {
    let mut printed = Ok(());
    let followed = client.follow(Method::GET, &args.target(), None, |event| {
        printed = match event {
            StreamEvent::Open => match std::mem::replace(state, TailState::Open) {
                TailState::Lost => {
                    let text = "connected again; the requests in between are not shown";
                    report(args, || json!({"reconnected": true}), text)
                }
                TailState::New | TailState::Open => Ok(()),
            },
            StreamEvent::Event(_, data) if args.json => print(&format!("{data}\n")),
            StreamEvent::Event(event, data) => match serde_json::from_str(data) {
                Ok(data) => print(&format_event(event, &data)),
                Err(_) => Ok(()),
            },
        };
        // A closed pipe (`| head`) ends it.
        printed.is_ok()
    });
    printed?;
    match followed {
        Ok(()) => Ok("larder has ended the stream".to_owned()),
        Err(RequestError::Lost(reason)) if *state != TailState::New => Ok(reason),
        Err(error) => Err(fail(1, String::from(error))),
    }
}

/// Says what becomes of the connection: as a line of JSON, or beside the lines.
fn report(args: &TailArgs, data: impl FnOnce() -> Value, text: &str) -> Result<(), ExitCode> {
    if args.json {
        return print(&format!("{}\n", data()));
    }
    // A failure of this has no other place to go.
    _ = writeln!(stderr(), "larder: {text}");
    Ok(())
}

impl TailArgs {
    fn target(&self) -> String {
        let client = self.client.map(|client| client.to_string());
        let parameters = [
            ("route", &self.route),
            ("outcome", &self.outcome),
            ("path", &self.path),
            ("client", &client),
            ("caller", &self.caller),
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
    let caller = &data["caller"];
    let caller = [&caller["kind"], &caller["fingerprint"]].map(Value::as_str).into_iter().flatten();
    let caller = caller.collect::<Vec<_>>().join(":").escape_debug().to_string();
    format!(
        "{time}  {}  {:>8.1} ms  {} {}  [{cache}]  {}  {caller}\n",
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
            "cache": "larder; hit; ttl=3", "millis": 1.25, "caller": {"kind": "cookie", "fingerprint": "00ff"},
        });
        let line = "10:00:01.234  200       1.2 ms  GET /a\\u{1b}[2J  [hit; ttl=3]  -  cookie:00ff\n";
        assert_eq!(format_event("decision", &data), line);
        let anonymous = json!({"caller": {"kind": "anonymous", "fingerprint": null}});
        assert!(format_event("decision", &anonymous).ends_with("  anonymous\n"));
        assert_eq!(format_event("skipped", &json!({"skipped": 7})), "… 7 more (sampled)\n");
    }
}
