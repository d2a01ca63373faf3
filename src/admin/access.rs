//! Who may purge and read statistics: the bearer of the token, or, where there is none, this machine.
//!
//! A browser on this machine is not trusted to speak for itself: any page that it shows could make it ask.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderName, ORIGIN, VIA};
use http::uri::Authority;
use http::{HeaderMap, Uri};
use subtle::ConstantTimeEq;

use super::answer::Refusal;
use crate::config::Secret;

/// Who is at the other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// Whom the permissions of the socket's file let in.
    Unix,
}

pub fn check(token: Option<&Secret>, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    check_same_origin(headers)?;
    match token {
        Some(token) => check_token(token, headers),
        None => {
            check_this_machine(peer, headers)?;
            check_host(uri, headers)
        }
    }
}

fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), Refusal> {
    let fix = "send `Authorization: Bearer TOKEN` with the value of `admin.token` in proxy.yaml";
    let Some(sent) = bearer(headers) else {
        return Err(Refusal::unauthorized("this endpoint needs the admin token", fix));
    };
    let expected = token.expose().as_bytes();
    if expected.is_empty() || !bool::from(sent.ct_eq(expected)) {
        return Err(Refusal::unauthorized("this is not the admin token", fix));
    }
    Ok(())
}

/// The token of the only `Authorization` field; none if there are two.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, more) = (values.next()?.as_bytes(), values.next());
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    (more.is_none() && scheme.eq_ignore_ascii_case(b"Bearer ")).then(|| token.trim_ascii())
}

/// A request that another proxy passed on comes from whoever asked that proxy.
fn check_this_machine(peer: Peer, headers: &HeaderMap) -> Result<(), Refusal> {
    let fix = "ask from the machine that larder runs on, or set `admin.token` in proxy.yaml and send it";
    let is_loopback = match peer {
        Peer::Tcp(address) => address.ip().to_canonical().is_loopback(),
        Peer::Unix => true,
    };
    if !is_loopback {
        let error = "without an admin token, this endpoint answers this machine only";
        return Err(Refusal::forbidden(error, fix));
    }
    match headers.keys().find(|name| is_of_a_proxy(name)) {
        Some(name) => Err(Refusal::forbidden(
            format!("the field `{name}` says that this request came through a proxy, from who knows where"),
            fix,
        )),
        None => Ok(()),
    }
}

fn is_of_a_proxy(name: &HeaderName) -> bool {
    *name == VIA || *name == FORWARDED || *name == "x-real-ip" || name.as_str().starts_with("x-forwarded")
}

/// A page of another site can make a browser send requests here; the browser says so.
fn check_same_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(HOST).map(|host| host.as_bytes().to_ascii_lowercase());
    let is_own = |origin: &[u8]| {
        let origin = origin.to_ascii_lowercase();
        let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        authority.is_some() && authority == host.as_deref()
    };
    let same_origin = headers.get_all(ORIGIN).iter().all(|origin| is_own(origin.as_bytes()));
    let same_site = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    if same_origin && same_site {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "a browser sends this request for a page of another site",
        "ask with curl, `larder purge` or `larder stats`, or from a page of this address",
    ))
}

/// A name that an attacker's DNS points to this machine makes a browser take this listener for the attacker's site.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let named = headers.get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut all = named.chain(uri.authority().map(|authority| Some(authority.clone())));
    if all.all(|authority| authority.is_some_and(|authority| is_this_machine(authority.host()))) {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "without an admin token, this endpoint is reached by IP address or as localhost only",
        "write http://127.0.0.1 with the port, or set `admin.token` in proxy.yaml and send it",
    ))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}
