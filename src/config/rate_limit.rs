//! `rate` of a route: how often its callers may ask.

use std::time::Duration;

use super::keys::Reader;
use super::scalars::{BOOLEAN, NON_EMPTY, is_off, parse_header_name, parsed, words};
use super::section::{Kind, OFF};
use super::settings::{Settings, settings};
use super::units::{self, FieldError};
use crate::policy::rate_limit::{CountedRequests, RateKey, RateLimit};

settings! {
    struct RateKeys = "rate" {
        /// The requests of a caller in a time: `100/m`, `20/s`, `5/5m`.
        limit: (u32, Duration) = LIMIT, required;
        /// The requests that may come at once. Default: the number in `limit`.
        burst: u32 = NUMBER, optional;
        /// The requests that have a budget together: those of a `client` (an address, of IPv6 a /64), of a known `caller`, with
        /// the same `jwt.CLAIM`, or with the same `header.NAME`, which is not verified. A request without it counts for its
        /// address.
        by: RateKey = BY, default "client";
        /// The requests that count: `all`, or `misses`, which are all but hits.
        counted as "count": CountedRequests =
            words!("all" => CountedRequests::All, "misses" => CountedRequests::Misses), default "all";
        /// Whether replicas that share a Redis have their budgets together. A request that counts then waits for Redis.
        is_shared as "shared": bool = BOOLEAN, default "true";
        /// `on` answers 429 beyond the limit; `observe` only counts such requests (`larder_over_rate_total`).
        is_enforced as "mode": bool = words!("on" => true, "observe" => false), default "on";
        /// Routes with the same name have their budgets together. Default: the route's path.
        name: String = NON_EMPTY, optional;
    }
}

/// `None` stands for `off`.
pub(super) const RATE: Reader<Option<RateLimit>> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Mapping(RateKeys::SECTION)]), |node, diagnostics| {
        if node.text().is_some_and(is_off) {
            return Some(None);
        }
        let RateKeys { limit: (requests, period), burst, by, counted, is_shared, is_enforced, name } =
            RateKeys::from_node(node, diagnostics)?;
        let burst = burst.unwrap_or(requests);
        Some(Some(RateLimit { name, requests, period, burst, by, counted, is_shared, is_enforced }))
    });

const MAX_REQUESTS: u32 = 1_000_000;
const LIMIT_HELP: &str = "write a number and a time from `1s` to `1d`: `100/m`, `20/s`, `5/5m`";

const LIMIT: Reader<(u32, Duration)> =
    Reader::new(Kind::Matching("^[0-9]+/[0-9]*(s|m|h|d)$"), |node, diagnostics| {
        parsed(node, "a limit such as `100/m`", diagnostics, parse_limit)
    });

fn parse_limit(text: &str) -> Result<(u32, Duration), FieldError> {
    let wrong = || (format!("`{text}` is not a limit"), LIMIT_HELP.to_owned());
    let (requests, period) = text.split_once('/').ok_or_else(wrong)?;
    let requests =
        requests.trim().parse().ok().filter(|it| (1..=MAX_REQUESTS).contains(it)).ok_or_else(wrong)?;
    let period = match period.trim() {
        unit if unit.starts_with(|first: char| first.is_ascii_alphabetic()) => format!("1{unit}"),
        period => period.to_owned(),
    };
    let day = Duration::from_secs(24 * 3600);
    let period = units::duration(&period).map_err(|_| wrong())?;
    let is_fit = (Duration::from_secs(1)..=day).contains(&period);
    is_fit.then_some((requests, period)).ok_or_else(wrong)
}

const NUMBER: Reader<u32> = Reader::new(Kind::Count, |node, diagnostics| {
    parsed(node, "a number", diagnostics, |text| {
        let number = text.parse().ok().filter(|number| (1..=MAX_REQUESTS).contains(number));
        number.ok_or_else(|| units::wrong_count(text, MAX_REQUESTS.into()))
    })
});

const BY_HELP: &str = "`client`, `caller`, `jwt.CLAIM` or `header.NAME`";

const BY: Reader<RateKey> =
    Reader::new(Kind::Matching("^(client|caller|jwt\\..+|header\\..+)$"), |node, diagnostics| {
        parsed(node, BY_HELP, diagnostics, |text| match text.split_once('.') {
            None if text == "client" => Ok(RateKey::Client),
            None if text == "caller" => Ok(RateKey::Caller),
            Some(("jwt", claim)) if !claim.is_empty() => Ok(RateKey::Claim(claim.to_owned())),
            Some(("header", name)) => parse_header_name(name).map(RateKey::Header),
            _ => Err((format!("`{text}` is nothing to count by"), format!("write {BY_HELP}"))),
        })
    });
