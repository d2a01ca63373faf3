//! Authorization of admin requests: the bearer token, or a client on this machine where no token is set.

use std::net::SocketAddr;

use http::request::Parts;

use super::response::AdminError;
use crate::access::{AccessDenied, AccessRequest, Trusted};
use crate::config::Secret;

/// The other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// The permissions of the socket's file decide who may connect.
    Unix,
}

/// `file`: the name of the configuration file in messages.
pub(super) fn authorize(
    token: Option<&Secret>,
    peer: Peer,
    head: &Parts,
    file: &str,
) -> Result<(), AdminError> {
    let peer = match peer {
        Peer::Tcp(address) => Some(address.ip()),
        Peer::Unix => None,
    };
    let request = AccessRequest { peer, version: head.version, uri: &head.uri, headers: &head.headers };
    let trusted = match token {
        Some(token) => Trusted::Token(token.expose()),
        None => Trusted::Machine { hosts: Some(&[]) },
    };
    let allowed = request.authorize(trusted, true);
    allowed.map_err(|denied| {
        let fix = fix(&denied, file);
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
            format!("write http://127.0.0.1 with the port, or set `admin.token` in {file} and send it")
        }
    }
}
