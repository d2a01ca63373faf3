//! Authorization of admin requests: the bearer token, or a client on this machine where no token is set.

use std::net::SocketAddr;

use http::request::Parts;

use super::response::AdminError;
use crate::access::{AccessDenied, AccessRequest, Trusted};
use crate::config::{Config, Secret};

/// The other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// The permissions of the socket's file decide who may connect.
    Unix,
}

pub(super) fn authorize(
    token: Option<&Secret>,
    peer: Peer,
    head: &Parts,
    config: &Config,
) -> Result<(), AdminError> {
    let peer = match peer {
        Peer::Tcp(address) => Some(address.ip()),
        Peer::Unix => None,
    };
    let request = AccessRequest { peer, version: head.version, uri: &head.uri, headers: &head.headers };
    let trusted = match token {
        Some(token) => Trusted::Token(token.expose()),
        None => Trusted::Machine { hosts: Some(&config.purge.hosts) },
    };
    let allowed = request.authorize(trusted, true);
    allowed.map_err(|denied| {
        let fix = fix(&denied, config.file_name());
        match denied {
            AccessDenied::MissingToken | AccessDenied::WrongToken => {
                AdminError::unauthorized(denied.to_string(), fix)
            }
            _ => AdminError::forbidden(denied.to_string(), fix),
        }
    })
}

fn fix(denied: &AccessDenied, file: &str) -> String {
    match denied {
        AccessDenied::MissingToken | AccessDenied::WrongToken => {
            format!("send `Authorization: Bearer TOKEN` with the value of `admin.token` in {file}")
        }
        AccessDenied::NotLoopback | AccessDenied::Forwarded(_) | AccessDenied::OldVersion => {
            format!("ask from the machine that larder runs on, or set `admin.token` in {file} and send it")
        }
        AccessDenied::CrossSite => {
            "ask with curl, `larder purge` or `larder stats`, or from a page of this address".to_owned()
        }
        AccessDenied::ForeignHost => {
            format!(
                "write http://127.0.0.1 with the port, add the name to `purge.hosts` in {file}, or set `admin.token` and \
                 send it"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::SettingOverrides;

    #[test]
    fn this_machine_has_the_names_in_hosts_too() {
        let text = "upstream: http://a\npurge: {hosts: [larder.test]}";
        let config = Config::parse(text, "proxy.yaml", &|_| None, &SettingOverrides::default());
        let config = config.expect("a right file");
        let (here, elsewhere) = ([127, 0, 0, 1], [192, 0, 2, 1]);
        for (host, client, expected) in [
            ("larder.test", here, true),
            ("LARDER.test:9090", here, true),
            ("localhost", here, true),
            ("evil.example", here, false),
            ("larder.test", elsewhere, false),
        ] {
            let request = Request::get("/stats").header("host", host).body(()).expect("a request");
            let peer = Peer::Tcp((client, 5000).into());
            let allowed = authorize(None, peer, &request.into_parts().0, &config);
            assert_eq!(allowed.is_ok(), expected, "{host} {client:?}");
        }
    }
}
