//! The sections `admin` and `purge`: who may operate larder, and who may purge.

use std::time::Duration;

use http::uri::Authority;
use ipnet::IpNet;

use super::diagnostics::{Diagnostics, Location};
use super::fields::Fields;
use super::keys::Reader;
use super::scalars::{ADDRESS, BOOLEAN, NETWORKS, POSITIVE_DURATION, TOKEN, is_off, list, parsed};
use super::section::{Kind, OFF};
use super::settings::{Settings, settings};
use super::upstream::OFF_OR_COUNT;
use super::yaml::YamlNode;
use super::{Listen, Secret};
use crate::policy::invalidation::RelatedPaths;

/// The settings of `admin`.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// `None`: no admin listener (`admin: off`).
    pub listen: Option<Listen>,
    /// Must be sent as `Authorization: Bearer`. `None`: no token is asked for.
    pub token: Option<Secret>,
}

settings! {
    struct AdminFields = "admin" {
        /// An address and port, or `unix:/path`.
        listen: Listen = ADDRESS, default "127.0.0.1:9090";
        /// The token that `Authorization: Bearer …` must carry. `none`: only requests from loopback are accepted.
        token: Option<Secret> = TOKEN, default "none";
    }
}

settings! {
    /// The sources and the reach of purges.
    pub(crate) struct PurgeSettings = "purge" {
        /// Networks that may send PURGE to the listener. With a token both must match. `loopback`: a process on this machine
        /// that asks without a proxy in between, if larder listens on loopback or Unix sockets only and trusts no proxies;
        /// with a token, any address.
        allow: PurgeAllow = PURGE_ALLOW, default "loopback";
        /// Names in `Host`, besides `localhost` and IP addresses, under which a process on this machine may purge by
        /// `loopback`, and use the admin listener without its token. `[]`: any name for PURGE, none for the admin listener.
        hosts: Vec<String> = HOST_NAMES, default "[]";
        /// The token that `Authorization: Bearer …` of a PURGE must carry.
        token: Option<Secret> = TOKEN, default "none";
        /// Whether purge requests in the form of other caches are accepted too: `PURGEKEYS`, `PURGETAGS` and `BAN`, and
        /// fields such as `xkey`, `Cache-Tags` and `Ykey`.
        dialects: bool = BOOLEAN, default "true";
        /// How long a purge with `Purge-Wait: applied` or `?wait=applied` waits for all replicas, unless it names a time.
        wait_timeout: Duration = POSITIVE_DURATION, default "5s";
        /// Whether a write also purges the cached paths above its own, unless a route has `purges` for it, or both have `tags`.
        parents: bool = BOOLEAN, default "true";
        /// Whether a DELETE or MOVE also purges what is cached below its path, and a PUT or PATCH of a collection its members,
        /// unless its route has `purges` or `per`.
        children: bool = BOOLEAN, default "true";
        /// How many of the most requested responses that a purge invalidated are fetched again. Each replica counts the
        /// requests it served.
        reprime: Option<usize> = OFF_OR_COUNT, default "off";
    }
}

impl PurgeSettings {
    pub(crate) fn related_paths(&self) -> RelatedPaths {
        RelatedPaths { parents: self.parents, children: self.children }
    }
}

/// A mapping, or `off`.
pub(super) const ADMIN: Reader<AdminSettings> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Mapping(AdminFields::SECTION)]), admin);

fn admin(node: &YamlNode, diagnostics: &Diagnostics) -> Option<AdminSettings> {
    match node.text() {
        Some(word) if is_off(word) => return Some(AdminSettings { listen: None, token: None }),
        Some(_) => {
            diagnostics
                .error(
                    node.location,
                    "this is neither `off` nor a mapping; it is not shown, as it may be a secret",
                )
                .help("write `admin: off`, or `admin: {listen: 127.0.0.1:9090, token: none}`")
                .secret();
            return None;
        }
        None => {}
    }
    let fields = Fields::open(node, AdminFields::SECTION, diagnostics)?;
    let AdminFields { listen, token } = AdminFields::read(&fields)?;
    if let (Listen::Tcp(address), None) = (&listen, &token)
        && !address.ip().is_loopback()
    {
        diagnostics
            .warning(
                fields.value_location("listen"),
                "the admin listener can be reached from other machines and has no token",
            )
            .help("without a token only loopback may purge and read statistics; set `token: ${LARDER_ADMIN_TOKEN}`");
    }
    Some(AdminSettings { listen: Some(listen), token })
}

impl PurgeSettings {
    /// Warns of `hosts` that narrow down nothing, since tokens or networks decide.
    pub(super) fn warn_of_hosts(&self, admin: &AdminSettings, location: Location, diagnostics: &Diagnostics) {
        let is_open_to_machine = self.token.is_none() && self.allow == PurgeAllow::Loopback;
        let is_admin_open = admin.listen.is_some() && admin.token.is_none();
        if !self.hosts.is_empty() && !is_open_to_machine && !is_admin_open {
            diagnostics
                .warning(location, "`hosts` has no effect beside `token` or `allow`")
                .help("remove it: it says under which names this machine may purge, and operate larder, without a token");
        }
    }
}

/// The senders of PURGE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PurgeAllow {
    /// With a token everybody; without one this machine, if nothing else can reach the listeners.
    Loopback,
    Networks(Vec<IpNet>),
}

impl PurgeAllow {
    fn is_everybody(&self) -> bool {
        match self {
            PurgeAllow::Loopback => false,
            PurgeAllow::Networks(networks) => networks.iter().any(|network| network.prefix_len() == 0),
        }
    }
}

const PURGE_ALLOW: Reader<PurgeAllow> =
    Reader::new(Kind::OneOf(&[Kind::Word(&["loopback"]), Kind::ListOf(&Kind::Text)]), |node, diagnostics| {
        match node.text() {
            Some("loopback") => Some(PurgeAllow::Loopback),
            _ => NETWORKS.read(node, diagnostics).map(PurgeAllow::Networks),
        }
    });

const HOST_NAMES: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    list(node, "[api.example.com]", diagnostics, |node, diagnostics| {
        parsed(node, "a host name", diagnostics, |text| match text.parse::<Authority>() {
            Ok(authority) if authority.host() == text => Ok(text.to_ascii_lowercase()),
            _ => Err((
                format!("`{text}` is not a host name"),
                "write a name without port, such as `api.example.com`".into(),
            )),
        })
    })
});

pub(super) const PURGE: Reader<PurgeSettings> = Reader::new(Kind::Mapping(PurgeSettings::SECTION), purge);

fn purge(node: &YamlNode, diagnostics: &Diagnostics) -> Option<PurgeSettings> {
    let fields = Fields::open(node, PurgeSettings::SECTION, diagnostics)?;
    let settings = PurgeSettings::read(&fields)?;
    if settings.token.is_none() && settings.allow.is_everybody() {
        diagnostics
            .warning(fields.value_location("allow"), "anybody who can reach larder may purge")
            .help("name the networks that may, or set `token: ${LARDER_PURGE_TOKEN}`");
    }
    Some(settings)
}
