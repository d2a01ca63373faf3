//! The addresses of the API in a configuration of nginx.

use super::nginx_text::NginxDirective;
use super::{Import, ask};
use crate::draft::{scalar, sequence};

/// The addresses of all `proxy_pass` with the directive; the first server of an `upstream` that one names.
pub(super) fn find_upstreams(http: &[NginxDirective]) -> Vec<(String, String)> {
    fn add_passes<'d>(directives: &'d [NginxDirective], found: &mut Vec<&'d NginxDirective>) {
        for directive in directives {
            if directive.name() == "proxy_pass" {
                found.push(directive);
            }
            add_passes(&directive.block, found);
        }
    }
    let mut passes = Vec::new();
    add_passes(http, &mut passes);
    let mut addresses: Vec<(String, String)> = Vec::new();
    for pass in passes {
        let address = pass.arguments().first().and_then(|target| upstream_address(http, target));
        if let Some(address) = address.filter(|address| addresses.iter().all(|(known, _)| known != address)) {
            addresses.push((address, pass.text()));
        }
    }
    addresses
}

/// The value of `upstream` for a `proxy_pass`: the servers of its `upstream`, or the one that it names.
fn upstream_address(http: &[NginxDirective], target: &str) -> Option<String> {
    let (scheme, rest) = target.split_once("://")?;
    if let Some(socket) = rest.strip_prefix("unix:") {
        let path = socket.split(':').next().unwrap_or(socket);
        return Some(scalar(&format!("unix:{path}")));
    }
    let mut after_first = rest.char_indices().skip(1);
    let end = after_first.find(|(_, c)| "/$".contains(*c)).map_or(rest.len(), |(at, _)| at);
    let authority = Some(&rest[..end]).filter(|authority| !authority.is_empty())?;
    let is_named = |directive: &&NginxDirective| {
        directive.name() == "upstream" && directive.arguments().first().is_some_and(|name| name == authority)
    };
    let servers = http.iter().find(is_named).map(|upstream| upstream.block.as_slice()).unwrap_or_default();
    let in_use = |server: &&NginxDirective| {
        server.name() == "server" && !server.arguments().iter().any(|word| word == "backup" || word == "down")
    };
    let names = servers.iter().filter(in_use).filter_map(|server| server.arguments().first());
    let url = |address: &str| match address.strip_prefix("unix:") {
        Some(path) => format!("unix:{path}"),
        None => format!("{scheme}://{address}"),
    };
    let urls: Vec<String> = names.map(|address| url(address)).collect();
    Some(match urls.as_slice() {
        [] => scalar(&url(authority)),
        [only] => scalar(only),
        several => sequence(several.iter().map(String::as_str)),
    })
}

/// Asks for what `upstream` blocks say of their servers: larder has a list of equal ones.
pub(super) fn ask_about_servers(draft: &mut Import, http: &[NginxDirective]) {
    // larder pools connections by itself, and its workers share what they know.
    const OWN: [&str; 4] = ["keepalive", "keepalive_requests", "keepalive_timeout", "zone"];
    let blocks = http.iter().filter(|directive| directive.name() == "upstream");
    for directive in blocks.flat_map(|upstream| &upstream.block) {
        let is_plain_server = directive.name() == "server" && directive.arguments().len() == 1;
        if !is_plain_server && !OWN.contains(&directive.name()) {
            ask(
                draft,
                format!(
                    "{} is left out: larder sends each request to one of several equal instances.",
                    directive.text()
                ),
            );
        }
    }
}
