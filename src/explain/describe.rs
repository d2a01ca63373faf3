//! The parts of an explanation's text: labelled lines, and reasons in words.

use std::fmt::{self, Display, Formatter};

use http::HeaderName;

use crate::hex;
use crate::policy::caller::UnknownCaller;
use crate::policy::classify::PassReason;
use crate::policy::not_stored::NotStored;
use crate::policy::route::Shared;
use crate::policy::{CacheKey, Route};

/// Writes a line with a label, which is empty for further lines of a kind.
pub(super) fn write_line(f: &mut Formatter<'_>, name: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "  {name:<11} {text}")
}

/// The first 8 bytes of the key, in hexadecimal digits.
pub(super) fn abbreviate_key(key: &CacheKey) -> String {
    hex::encode(&key.0[..8])
}

/// Describes why a request is forwarded uncached, with the route.
pub(super) fn describe_pass(reason: PassReason, route: Option<&Route>) -> String {
    let path = route.map_or("", |route| route.path.as_str());
    let reason_text = match reason {
        PassReason::Method => "only GET, HEAD and the route's `methods` are cached",
        PassReason::NoRoute => "no route matches the path",
        PassReason::RouteOff => "its route has `mode: off`",
        PassReason::RouteNeverCaches => "its route has `ttl: never`, or only `purges`",
        PassReason::PathSpelling => {
            "the path is not normalized, can also be read as one of another route, or stands for the caller (`me`) where \
             its route is `shared`"
        }
        PassReason::NoCredential => {
            "its route has `per`, and the request does not have exactly one such credential"
        }
        PassReason::Caller(why) => match why {
            UnknownCaller::Anonymous => "its route has `callers`, and the request has no credential",
            UnknownCaller::Refused => "its route has `callers`, and the credential is not accepted",
            UnknownCaller::Expired => "its route has `callers`, and the token is past its `exp`",
            UnknownCaller::Unverified => "its route has `callers`, and the credential can't be verified now",
        },
        PassReason::Content => "a GET with content",
        PassReason::OverrideField => {
            "a field may change the request's meaning (X-HTTP-Method-Override and the like)"
        }
        PassReason::Precondition => "only the upstream can evaluate If-Match and If-Unmodified-Since",
        PassReason::Range => "it has a Range, and the whole response is not stored",
        PassReason::UnsentBytes => "its client has had more fetched than it was sent",
        PassReason::Upgrade => "it upgrades to another protocol",
        PassReason::Position => "the purges since its Larder-Position are unknown",
        PassReason::SharedPart => "the shared part is not JSON of the form that `overlay` describes",
        PassReason::CallerPart => "a part of the caller can't be had or read",
    };
    match path {
        "" => format!("{}: {reason_text}", reason.as_str()),
        path => format!("{}: {reason_text} ({path})", reason.as_str()),
    }
}

/// Names the field that keeps responses from being shared, and what the route can say about it.
pub(super) fn describe_credential(route: Option<&Route>, field: Option<&HeaderName>) -> String {
    let per = route.and_then(|route| route.per.as_ref());
    let Some(field) = field.map(header_in_words) else {
        return "what `callers` reads is not in the key: write `shared: signed-in`, `shared: true` or `per`"
            .into();
    };
    let exempt = format!("`credentials: {{not: [{field}]}}` if it changes nothing in the response");
    match per {
        Some(per) if field == "Cookie" => format!(
            "`Cookie` beside `per: {per}` is not in the key: write {exempt}; else `cookies: [NAME]` for the cookies that \
             matter, or `per: {per} | cookie.NAME` for a session"
        ),
        Some(per) => {
            format!("`{field}` beside `per: {per}` is not in the key: write {exempt}, or add it to `per`")
        }
        None if route.is_some_and(|route| route.shared != Shared::No) => format!(
            "`{field}` may identify a caller, so the request shares nothing with those without a credential: write {exempt}"
        ),
        None => format!(
            "`{field}` identifies a caller, and the route does not say who shares its responses: write `shared: true` if \
             all get the same, `per` if each caller has a response, or {exempt}"
        ),
    }
}

/// `Cookie` for `cookie`.
pub(super) fn header_in_words(name: &HeaderName) -> String {
    let words = name.as_str().split('-').map(|word| match word {
        "api" | "csrf" | "id" | "xsrf" => word.to_uppercase(),
        _ => {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{}{rest}", first.to_uppercase())
        }
    });
    words.collect::<Vec<_>>().join("-")
}

pub(super) fn describe_not_stored(why: NotStored) -> &'static str {
    match why {
        NotStored::Method => "only responses to GET are stored",
        NotStored::Status => "this status is not stored; `status: {404: 10s}` would store it",
        NotStored::NoStore => "the response has no-store",
        NotStored::RequestNoStore => "the request has no-store, and the route obeys request directives",
        NotStored::Private => "the response has private; `override: [private]` ignores it",
        NotStored::SetCookie => "the response sets a cookie",
        NotStored::VaryStar => {
            "its Vary matches no other request: it is `*`, has `X-Forwarded-For`, or more than 32 fields"
        }
        NotStored::EventStream => "an event stream never ends",
        NotStored::Credentials => {
            "the request has a credential that is not in the key, and the response has neither `public` nor `s-maxage`"
        }
        NotStored::NoLifetime => "neither the response nor the route's `ttl` gives a lifetime",
        NotStored::AlreadyStale => "it is stale on arrival and has no validator",
        NotStored::Partial => "partial responses are not stored",
        NotStored::TooLarge => "its content is larger than `max_size`",
        NotStored::TooManyTags => "it has too many tags, or one that is too long",
        NotStored::NotJson => {
            "a tag or `ttl_from` needs its content, whose Content-Type is not JSON in UTF-8"
        }
        NotStored::Encoded => "a tag or `ttl_from` needs its content, which has a coding other than gzip",
        NotStored::MalformedJson => "its content is not valid JSON, or has a duplicate name",
        NotStored::JsonTooLarge => "a tag or `ttl_from` needs its content, which is larger than `max_json`",
        NotStored::UnusableJson => "its content has a value that can't be part of a tag",
        NotStored::NoCallerTag => "a tag of the route names the caller, whose token lacks that claim",
        NotStored::ExpiredCaller => "the token in `per` has expired, by its own `exp`",
        NotStored::NoExpiry => "the time that `ttl_from` names is missing or invalid",
        NotStored::StrayContent => "it is a 204 with content",
        NotStored::ChangedCaller => "its session became somebody else's, or ended, while it was fetched",
        NotStored::Incomplete => "the upstream sent an incomplete response",
        NotStored::Memory => "fetches and slow readers take all of the memory budget",
    }
}
