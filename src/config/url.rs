//! The upstream's URLs. Errors never show a part that may hold a password.

use http::uri::{Authority, Uri};

use super::UpstreamAddress;
use super::diagnostics::Diagnostics;
use super::keys::Reader;
use super::scalars::{absolute_path, list, parsed};
use super::section::Kind;
use super::units::FieldError;
use super::yaml::{Value, YamlNode};

const UPSTREAM_HELP: &str = "write `http://host:port`, `https://host:port` or `unix:/path`";

/// The instances of an API, at most.
const MAX_UPSTREAMS: usize = 64;

/// One URL, or a list of them.
pub(super) const UPSTREAM_URLS: Reader<Vec<UpstreamAddress>> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]), |node, diagnostics| {
        let Value::List(items) = &node.value else {
            return upstream_url(node, diagnostics).map(|url| vec![url]);
        };
        let urls = list(node, "[http://a:3000, http://b:3000]", diagnostics, upstream_url)?;
        if urls.len() < items.len() {
            return None;
        }
        let is_repeated = |(at, url): (usize, &UpstreamAddress)| urls[..at].contains(url);
        let (message, help) = match urls.len() {
            0 => ("no URL of the API", "write `http://host:port`"),
            1..=MAX_UPSTREAMS if !urls.iter().enumerate().any(is_repeated) => return Some(urls),
            1..=MAX_UPSTREAMS => ("the same URL occurs twice", "remove one of them"),
            _ => ("more than 64 URLs of the API", "put a load balancer before the API"),
        };
        diagnostics.error(node.location, message).help(help);
        None
    });

fn upstream_url(node: &YamlNode, diagnostics: &Diagnostics) -> Option<UpstreamAddress> {
    parsed(node, "a URL such as `http://127.0.0.1:3000`", diagnostics, upstream_address)
}

fn upstream_address(text: &str) -> Result<UpstreamAddress, FieldError> {
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
        return wrong("the upstream's URL has a user name or password, which larder does not send");
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        let part = if uri.path() == "/" { "query" } else { "path" };
        return Err((
            format!("the upstream's URL has a {part}"),
            format!("requests keep the client's {part}: write scheme, host and port only"),
        ));
    }
    let authority = authority(host.as_str())?;
    match uri.scheme_str() {
        Some("http") => Ok(UpstreamAddress::Http { authority }),
        Some("https") => Ok(UpstreamAddress::Https { authority }),
        Some(other) => Err((
            format!("the upstream is reached over http, https or a Unix socket, not {other}"),
            UPSTREAM_HELP.into(),
        )),
        None => wrong("the upstream is not a URL"),
    }
}

/// Parses a host with or without a port.
pub(super) fn authority(text: &str) -> Result<String, FieldError> {
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
