//! The keys that shorten a lifetime: `ttl_from`, a time in the response, and `jitter`, a random part.

use super::diagnostics::Diagnostics;
use super::fields::Fields;
use super::keys::Reader;
use super::scalars::{DURATION, HEADER_NAME, NON_EMPTY, parsed, split_help};
use super::section::{Kind, NONE};
use super::settings::{Settings, settings};
use super::yaml::YamlNode;
use crate::policy::json_query::JsonQuery;
use crate::policy::ttl_from::{TimeSource, TtlFrom};
use http::HeaderName;
use std::time::Duration;

settings! {
    struct TtlFromFields = "ttl_from" {
        /// Where the time is in the content: a JSON Pointer `/expires_at` or a JSONPath `$.urls[*].expires_at` (of
        /// several, the earliest). RFC 3339, an HTTP-date, or seconds (also milli-, micro- or nanoseconds) since 1970.
        json: JsonQuery = TIME_QUERY, optional;
        /// The response field that holds the time, instead of `json`.
        header: HeaderName = HEADER_NAME, optional;
        /// Instead of `json`: where URLs are whose own ends bound the response, such as `$..url`. The earliest counts, of
        /// `Expires`, `X-Amz-Date` with `X-Amz-Expires` (also `X-Goog-…`, `x-oss-…`), `se` with `sig`, and those of other
        /// signers that docs/routes.md lists. Text without a signature is ignored; a response with a signed URL whose end can't be read is not stored.
        signed_url: JsonQuery = TIME_QUERY, optional;
        /// With `signed_url`: one more parameter that holds a time, or a token with `exp=` and `~`.
        parameter: String = NON_EMPTY, optional;
        /// How long before that time the response expires.
        minus: Duration = DURATION, default "0s";
    }
}

const HELP: &str =
    "write `{json: $.expires_at, minus: 15m}`, `{signed_url: $..url}`, `{header: X-Expires}` or `none`";

const TIME_QUERY: Reader<JsonQuery> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a JSONPath such as `$.expires_at`", diagnostics, |text| {
        JsonQuery::parse(text).map_err(|error| split_help(error, HELP))
    })
});

/// `None` stands for `none`.
pub(super) const TTL_FROM: Reader<Option<TtlFrom>> =
    Reader::new(Kind::OneOf(&[NONE, Kind::Mapping(TtlFromFields::SECTION)]), ttl_from);

fn ttl_from(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Option<TtlFrom>> {
    if node.text() == Some("none") {
        return Some(None);
    }
    let fields = Fields::open(node, TtlFromFields::SECTION, diagnostics)?;
    let TtlFromFields { json, header, signed_url, parameter, minus } = TtlFromFields::read(&fields)?;
    if parameter.is_some() && signed_url.is_none() {
        diagnostics
            .error(
                fields.value_location("parameter"),
                "`parameter` belongs to `signed_url`, which is not there",
            )
            .help("write `{signed_url: $..url, parameter: exp}`, or leave `parameter` out");
        return None;
    }
    let sources = [
        json.map(TimeSource::Json),
        header.map(TimeSource::Header),
        signed_url.map(|urls| TimeSource::SignedUrl { urls, parameter }),
    ];
    let mut sources = sources.into_iter().flatten();
    match (sources.next(), sources.next()) {
        (Some(source), None) => Some(Some(TtlFrom { source, minus })),
        (Some(_), Some(_)) => {
            let message = "`ttl_from` has more than one of `json`, `header` and `signed_url`";
            diagnostics.error(node.location, message).help(HELP);
            None
        }
        (None, _) => {
            let message = "`ttl_from` has neither `json` nor `header` nor `signed_url`";
            diagnostics.error(node.location, message).help(HELP);
            None
        }
    }
}

/// Percent of a lifetime.
pub(super) const JITTER: Reader<u8> = Reader::new(Kind::Matching("^[0-9]+%$"), |node, diagnostics| {
    const MAX_PERCENT: u8 = 50;
    parsed(node, "a share such as `10%`", diagnostics, |text| {
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent.filter(|percent| *percent <= MAX_PERCENT).ok_or_else(|| {
            (
                format!("`{text}` is not a share of a lifetime"),
                format!("write `10%`; at most `{MAX_PERCENT}%`"),
            )
        })
    })
});
