//! URLs of the upstream and of Redis, taken apart. An error never shows what may hold a password.

use http::uri::{Authority, Uri};

use super::UpstreamAddress;
use super::problem::Problems;
use super::scalars::{absolute_path, parsed};
use super::tree::Node;
use super::units::Wrong;

const UPSTREAM_HELP: &str = "write `http://host:port`, `https://host:port` or `unix:/path`";

pub fn upstream(node: &Node, problems: &Problems) -> Option<UpstreamAddress> {
    parsed(node, "a URL such as `http://127.0.0.1:3000`", problems, upstream_address)
}

fn upstream_address(text: &str) -> Result<UpstreamAddress, Wrong> {
    let wrong = |message: &str| Err((message.to_owned(), UPSTREAM_HELP.to_owned()));
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute_path(path).map(UpstreamAddress::Unix);
    }
    if let Some(name) = text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
        return Err((format!("`{text}` is no URL, and no variable either"), format!("write `${{{name}}}`")));
    }
    if !text.contains("://") {
        let text = text.trim_end_matches('/');
        return match authority(text) {
            Ok(_) if !text.contains('@') => {
                Err((format!("`{text}` has no scheme"), format!("write `http://{text}` or `https://{text}`")))
            }
            _ => wrong("the upstream is not a URL"),
        };
    }
    let Ok(uri) = text.parse::<Uri>() else { return wrong("the upstream is not a URL") };
    let Some(host) = uri.authority() else { return wrong("the upstream's URL names no host") };
    if host.as_str().contains('@') {
        return wrong("the upstream's URL has a user name or password: larder sends none");
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return Err((
            "the upstream's URL has a path".into(),
            "requests go to the path the client asked for: write scheme, host and port only".into(),
        ));
    }
    let authority = authority(host.as_str())?;
    match uri.scheme_str() {
        Some("http") => Ok(UpstreamAddress::Http { authority }),
        Some("https") => Ok(UpstreamAddress::Https { authority }),
        Some(other) => Err((
            format!("the upstream is spoken to over http, https or a Unix socket, not {other}"),
            UPSTREAM_HELP.into(),
        )),
        None => wrong("the upstream is not a URL"),
    }
}

/// A host with or without port, and nothing else.
pub fn authority(text: &str) -> Result<String, Wrong> {
    let wrong = || (format!("`{text}` is not a host"), "write `host` or `host:port`".to_owned());
    let parsed = text.parse::<Authority>().map_err(|_| wrong())?;
    let port_is_right = match parsed.as_str().strip_prefix(parsed.host()) {
        Some("") => true,
        Some(port) => {
            port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        }
        None => false,
    };
    if parsed.host().is_empty() || !port_is_right { Err(wrong()) } else { Ok(parsed.as_str().to_owned()) }
}
