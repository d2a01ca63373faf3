//! The keys that shorten lifetimes.

use std::time::Duration;

use super::{check_wrong, right};
use crate::policy::json_query::JsonQuery;
use crate::policy::ttl_from::{TimeSource, TtlFrom};

fn ttl_from(defaults: &str, own: &str) -> Option<TtlFrom> {
    let config = right(&format!("defaults: {{{defaults}}}\nroutes: [{{path: /a, {own}}}]"));
    config.routes[0].ttl_from.clone()
}

#[test]
fn a_time_stands_in_the_content_or_in_a_field() {
    let json = |text: &str| TimeSource::Json(JsonQuery::parse(text).unwrap());
    let own = "ttl_from: {json: $.expires_at, minus: 15m}";
    let expected = TtlFrom { source: json("$.expires_at"), minus: Duration::from_secs(900) };
    assert_eq!(ttl_from("", own), Some(expected.clone()));
    assert_eq!(ttl_from(own, ""), Some(expected));
    assert_eq!(ttl_from(own, "ttl_from: none"), None);
    assert_eq!(ttl_from("", ""), None);
    let urls = JsonQuery::parse("$..url").unwrap();
    let source = TimeSource::SignedUrl { urls, parameter: Some("exp".to_owned()) };
    let expected = TtlFrom { source, minus: Duration::from_secs(600) };
    assert_eq!(ttl_from("", "ttl_from: {signed_url: $..url, parameter: exp, minus: 10m}"), Some(expected));
    let field = TimeSource::Header(http::HeaderName::from_static("x-expires"));
    let expected = TtlFrom { source: field, minus: Duration::ZERO };
    assert_eq!(ttl_from("", "ttl_from: {header: X-Expires}"), Some(expected));
}

#[test]
fn jitter_is_a_part_of_the_lifetime() {
    let jitter = |text: &str| right(&format!("routes: [{{path: /a, jitter: {text}}}]")).routes[0].jitter;
    assert_eq!(["0%", "10%", "\"50%\""].map(jitter), [0, 10, 50]);
}

#[test]
fn what_is_wrong_is_answered_with_what_to_write() {
    for (own, help) in [
        ("ttl_from: {}", "{json: $.expires_at, minus: 15m}"),
        ("ttl_from: {minus: 1m}", "{header: X-Expires}"),
        ("ttl_from: {json: $.a, header: X-A}", "more than one of `json`, `header` and `signed_url`"),
        ("ttl_from: {json: $.a, signed_url: $..b}", "more than one"),
        ("ttl_from: {json: $.a, parameter: exp}", "`parameter` belongs to `signed_url`"),
        ("ttl_from: {signed_url: url}", "`$.url`"),
        ("ttl_from: {json: expires_at}", "`$.expires_at`"),
        ("ttl_from: {header: X A}", "X A"),
        ("ttl_from: {json: $.a, minus: 15}", "`15s`"),
        ("ttl_from: {json: $.a, less: 15m}", "minus"),
        ("ttl_from: expires_at", "json, header, signed_url, parameter, minus"),
        ("jitter: 10", "write `10%`"),
        ("jitter: 51%", "at most `50%`"),
        ("jitter: -1%", "write `10%`"),
        ("jitter: 2s", "write `10%`"),
    ] {
        check_wrong(&format!("routes: [{{path: /a, {own}}}]"), &["2:", help]);
    }
}
