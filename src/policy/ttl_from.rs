//! A time in a response that bounds its lifetime, such as the expiry of a signed URL.
//!
//! It only shortens. A response without a readable time is not stored: it might have expired. With `signed_url` this holds
//! for each URL that looks signed, and a response without any has the lifetime of its route.

mod signed_url;

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::content::Content;
use super::http_date::{self, parse_rfc3339, single_value};
use super::json_query::JsonQuery;
use super::not_stored::NotStored;
use crate::clock::Timestamp;
use crate::stored_response::Terms;

/// `ttl_from` of a route: the end that the response names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtlFrom {
    /// Where the response names it.
    pub source: TimeSource,
    /// The margin by which the response expires earlier.
    pub minus: Duration,
}

/// The place of a time in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// `{json: $.expires_at}`
    Json(JsonQuery),
    /// `{header: X-Expires}`
    Header(HeaderName),
    /// `{signed_url: "$..url", parameter: exp}`
    SignedUrl {
        /// Selects the URLs.
        urls: JsonQuery,
        /// The parameter with the time. `None`: those of common signers.
        parameter: Option<String>,
    },
}

/// Numbers of seconds are smaller: as seconds this is the year 5138, as milliseconds 1973. The thousandfold parts milliseconds
/// from microseconds, and its thousandfold microseconds from nanoseconds.
const MILLISECOND_THRESHOLD: u64 = 100_000_000_000;

impl TtlFrom {
    /// Whether the time is in the content.
    pub fn reads_content(&self) -> bool {
        !matches!(self.source, TimeSource::Header(_))
    }

    /// Bounds the terms by the time that the response names.
    pub fn bound_terms(
        &self,
        terms: Terms,
        headers: &HeaderMap,
        content: Option<&Content>,
    ) -> Result<Terms, NotStored> {
        let named = match &self.source {
            TimeSource::Header(name) => single_value(headers, name)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| parse_time(text.trim(), terms.received_at)),
            TimeSource::Json(query) => content
                .and_then(Content::json)
                .and_then(|document| parse_json_time(query, document, terms.received_at)),
            TimeSource::SignedUrl { urls, parameter } => {
                let document = content.and_then(Content::json).ok_or(NotStored::NoExpiry)?;
                match earliest_end(urls, parameter.as_deref(), document, terms.received_at)? {
                    Some(end) => Some(end),
                    None => return Ok(terms),
                }
            }
        };
        let terms = terms.bounded_by(named.ok_or(NotStored::NoExpiry)?.minus(self.minus));
        if terms.expires_at <= terms.received_at { Err(NotStored::AlreadyStale) } else { Ok(terms) }
    }
}

/// The earliest selected time; `None` if one of them is malformed.
fn parse_json_time(query: &JsonQuery, document: &Value, now: Timestamp) -> Option<Timestamp> {
    let times = query.nodes(document).into_iter().map(|node| match node {
        Value::String(text) => parse_time(text.trim(), now),
        Value::Number(number) => {
            number.as_u64().or_else(|| to_whole_number(number.as_f64()?)).map(time_from_number)
        }
        _ => None,
    });
    times.collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// The earliest end of the selected URLs; `None` if none of them is signed.
fn earliest_end(
    urls: &JsonQuery,
    parameter: Option<&str>,
    document: &Value,
    now: Timestamp,
) -> Result<Option<Timestamp>, NotStored> {
    let ends = find_texts(urls.nodes(document))
        .into_iter()
        .map(|text| signed_url::parse_end(text.trim(), parameter, |time| parse_time(time, now)));
    let ends: Result<Vec<_>, _> = ends.collect();
    ends.map(|ends| ends.into_iter().flatten().min()).map_err(|signed_url::UnreadableEnd| NotStored::NoExpiry)
}

/// The texts among the values, and all in lists and objects among them.
fn find_texts(values: Vec<&Value>) -> Vec<&str> {
    let (mut left, mut texts, mut seen) = (values, Vec::new(), HashSet::new());
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => texts.push(text.as_str()),
            // A path may select an object and what is in it.
            Value::Array(items) if seen.insert(std::ptr::from_ref(value)) => left.extend(items),
            Value::Object(members) if seen.insert(std::ptr::from_ref(value)) => left.extend(members.values()),
            _ => {}
        }
    }
    texts
}

fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let number = || text.parse().ok().map(time_from_number);
    parse_rfc3339(text).or_else(|| http_date::parse(text.as_bytes(), now)).or_else(number)
}

fn time_from_number(number: u64) -> Timestamp {
    let mut seconds = number;
    while seconds >= MILLISECOND_THRESHOLD {
        seconds /= 1000;
    }
    Timestamp::from_secs(seconds)
}

/// `1763640000.5`: fractions are dropped.
fn to_whole_number(number: f64) -> Option<u64> {
    Some(Duration::try_from_secs_f64(number).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::testing::{NOW, headers, route, secs, store};

    /// Fresh for an hour, useful for ten minutes more.
    fn terms() -> Terms {
        let terms = store(&route(), 200, "Cache-Control: max-age=3600, stale-if-error=600").unwrap();
        assert_eq!(terms.expires_at, NOW.plus(secs(4200)));
        terms
    }

    fn bound(value: Value, minus: u64) -> Result<Terms, NotStored> {
        let from = TtlFrom {
            source: TimeSource::Json(JsonQuery::parse("$.urls[*].expires").unwrap()),
            minus: secs(minus),
        };
        let content = Content::Json(json!({"urls": [{"expires": value}]}));
        from.bound_terms(terms(), &HeaderMap::new(), Some(&content))
    }

    #[test]
    fn the_smaller_lifetime_wins_and_ends_for_good() {
        let at = NOW.as_secs();
        for value in [
            json!(at + 1000),
            json!((at + 1000) * 1000 + 999),
            json!((at + 1000) * 1_000_000),
            json!((at + 1000) * 1_000_000_000 + 999),
            json!(format!("{}", (at + 1000) * 1_000_000)),
            json!(at as f64 + 1000.5),
            json!(format!("{}", at + 1000)),
            json!("1994-11-06T09:06:17Z"),
            json!("Sun, 06 Nov 1994 09:06:17 GMT"),
        ] {
            let bound = bound(value.clone(), 100).unwrap_or_else(|reason| panic!("{value}: {reason:?}"));
            assert_eq!(bound.freshness_lifetime, secs(900), "{value}");
            assert_eq!(bound.stale_if_error, Duration::ZERO);
            assert_eq!(bound.expires_at, NOW.plus(secs(900)));
        }
        let longer = bound(json!(at + 100_000), 0).unwrap();
        assert_eq!(longer, terms());
        let between = bound(json!(at + 4000), 0).unwrap();
        assert_eq!((between.freshness_lifetime, between.stale_if_error), (secs(3600), secs(400)));
        assert_eq!(between.expires_at, NOW.plus(secs(4000)));
    }

    #[test]
    fn what_is_over_or_can_not_be_read_is_not_stored() {
        let at = NOW.as_secs();
        for over in [json!(at), json!(at + 100), json!(0)] {
            assert_eq!(bound(over, 100), Err(NotStored::AlreadyStale));
        }
        for value in [
            json!(null),
            json!("soon"),
            json!(""),
            json!(true),
            json!(-1),
            json!(1e300),
            json!([at + 9]),
            json!({}),
        ] {
            assert_eq!(bound(value.clone(), 0), Err(NotStored::NoExpiry), "{value}");
        }
        let from =
            |text| TtlFrom { source: TimeSource::Json(JsonQuery::parse(text).unwrap()), minus: secs(0) };
        let content = Content::Json(json!({"a": at + 100, "b": at + 50, "c": "?"}));
        let bound = |text| {
            from(text).bound_terms(terms(), &HeaderMap::new(), Some(&content)).map(|terms| terms.expires_at)
        };
        // The earliest of several.
        assert_eq!(bound("$['a', 'b']"), Ok(NOW.plus(secs(50))));
        assert_eq!(bound("$.*"), Err(NotStored::NoExpiry));
        assert_eq!(bound("/d"), Err(NotStored::NoExpiry));
        assert_eq!(from("/a").bound_terms(terms(), &HeaderMap::new(), None), Err(NotStored::NoExpiry));
    }

    #[test]
    fn signed_urls_are_found_in_lists_and_objects() {
        let from = TtlFrom {
            source: TimeSource::SignedUrl { urls: JsonQuery::parse("$..url").unwrap(), parameter: None },
            minus: secs(0),
        };
        let signed =
            |seconds: u64| format!("https://a.example/?Expires={}&Signature=x", NOW.as_secs() + seconds);
        for (url, expected) in [
            (json!(signed(100)), Some(100)),
            (json!([signed(100), signed(50)]), Some(50)),
            (json!({"small": signed(100), "full": {"src": signed(70)}}), Some(70)),
            (json!({"url": [signed(30)]}), Some(30)),
            (json!(["https://a.example/"]), None),
        ] {
            let content = Content::Json(json!({"file": {"url": url}}));
            let bound = from.bound_terms(terms(), &HeaderMap::new(), Some(&content)).unwrap();
            let expected = expected.map_or(terms().expires_at, |seconds| NOW.plus(secs(seconds)));
            assert_eq!(bound.expires_at, expected, "{url}");
        }
    }

    #[test]
    fn a_field_may_name_it() {
        let name = HeaderName::from_static("x-expires");
        let from = TtlFrom { source: TimeSource::Header(name), minus: secs(0) };
        let bound = |text| from.bound_terms(terms(), &headers(text), None).map(|terms| terms.expires_at);
        assert_eq!(bound("X-Expires: 784111877"), Ok(NOW.plus(secs(100))));
        assert_eq!(bound("X-Expires: 1994-11-06T08:51:17Z"), Ok(NOW.plus(secs(100))));
        assert_eq!(bound("X-Expires: 784111877\nX-Expires: 784111877"), Err(NotStored::NoExpiry));
        assert_eq!(bound(""), Err(NotStored::NoExpiry));
    }
}
