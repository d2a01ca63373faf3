//! `downstream` of a route: how long clients and other caches may keep its responses.

use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::fields::Fields;
use super::keys::Reader;
use super::scalars::{DURATION, words};
use super::section::{Kind, NONE};
use super::settings::{Settings, settings};
use super::yaml::YamlNode;
use crate::policy::downstream::{CacheScope, Downstream};

settings! {
    struct DownstreamKeys = "downstream" {
        /// How long anybody may keep a response, from when larder sends it.
        max_age: Duration = DURATION, default "0s";
        /// How long shared caches such as a CDN may, if not as long.
        s_maxage: Duration = DURATION, optional;
        /// How long they may serve it stale while they fetch it again.
        stale_while_revalidate: Duration = DURATION, optional;
        /// How long they may serve it stale if larder fails.
        stale_if_error: Duration = DURATION, optional;
        /// `public`: also for requests with credentials; `private`: for the client's own cache alone.
        scope: CacheScope = words!("public" => CacheScope::Public, "private" => CacheScope::Private), optional;
    }
}

/// `None` stands for `none`.
pub(super) const DOWNSTREAM: Reader<Option<Downstream>> =
    Reader::new(Kind::OneOf(&[NONE, Kind::Mapping(DownstreamKeys::SECTION)]), |node, diagnostics| {
        if node.text() == Some("none") {
            return Some(None);
        }
        read(node, diagnostics).map(Some)
    });

fn read(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Downstream> {
    let fields = Fields::open(node, DownstreamKeys::SECTION, diagnostics)?;
    let DownstreamKeys { max_age, s_maxage, stale_while_revalidate, stale_if_error, scope } =
        DownstreamKeys::read(&fields)?;
    if s_maxage.is_some() && scope == Some(CacheScope::Private) {
        diagnostics
            .error(
                fields.value_location("s_maxage"),
                "`s_maxage` is for shared caches, which `scope: private` excludes",
            )
            .help("leave out one of them");
        return None;
    }
    Some(Downstream { max_age, s_maxage, stale_while_revalidate, stale_if_error, scope })
}
