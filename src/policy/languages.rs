//! A route's `languages`: the language of a request is chosen before the key is made and the request is sent.
//!
//! Browsers write `Accept-Language` in as many ways as they have users. A cache can't know which of them mean the same to the
//! upstream (RFC 9110 §12.5.4 leaves the choice to it), so the operator says which languages there are. The field is then
//! replaced by the best of these, and the upstream sees what is in the key.

use std::cmp::Reverse;

use http::Method;
use http::header::{ACCEPT_LANGUAGE, HeaderMap, HeaderValue, UPGRADE};

use super::Route;
use super::accept_encoding::parse_member;
use super::route::RouteMode;
use super::routes::Routes;

/// Maximum number of language ranges that are read in a request.
const MAX_RANGES: usize = 64;

/// Chooses the language of a read on a route with `languages`.
pub(crate) fn choose_request_language(routes: &Routes, method: &Method, path: &str, headers: &mut HeaderMap) {
    if !routes.has_languages || !headers.contains_key(ACCEPT_LANGUAGE) || headers.contains_key(UPGRADE) {
        return;
    }
    let is_read =
        |route: &Route| matches!(*method, Method::GET | Method::HEAD) || route.methods.contains(method);
    let route =
        routes.find(path).filter(|route| route.caches() && route.mode == RouteMode::On && is_read(route));
    if let Some(route) = route.filter(|route| !route.languages.is_empty()) {
        choose_language(&route.languages, headers);
    }
}

/// Replaces `Accept-Language` by the best of `languages`, or removes it if the request accepts none of them: then the
/// upstream answers in its own language, as it does without the field.
fn choose_language(languages: &[String], headers: &mut HeaderMap) {
    let lines = headers.get_all(ACCEPT_LANGUAGE).iter().map(HeaderValue::as_bytes);
    let members = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let ranges: Vec<(&[u8], u16)> = members.filter_map(parse_member).take(MAX_RANGES).collect();
    let weighted = languages.iter().map(|language| (language, weigh(language.as_bytes(), &ranges)));
    // The first one of equal weight.
    let best = weighted.filter(|(_, weight)| *weight > 0).min_by_key(|(_, weight)| Reverse(*weight));
    match best.and_then(|(language, _)| HeaderValue::from_str(language).ok()) {
        Some(language) => _ = headers.insert(ACCEPT_LANGUAGE, language),
        None => _ = headers.remove(ACCEPT_LANGUAGE),
    }
}

/// The weight of a language: that of the longest range that contains it (RFC 4647 §3.3.1, basic filtering). If none refuses
/// it, it also stands for the ranges below it (§3.4, lookup): `en` for `en-GB`.
fn weigh(language: &[u8], ranges: &[(&[u8], u16)]) -> u16 {
    let containing = ranges.iter().filter(|(range, _)| *range == b"*" || is_within(language, range));
    let own = containing.max_by_key(|(range, _)| if *range == b"*" { 0 } else { range.len() });
    let below = ranges.iter().filter(|(range, _)| range.len() > language.len() && is_within(range, language));
    let below = below.map(|(_, weight)| *weight).max().unwrap_or(0);
    match own {
        Some((range, 0)) if *range != b"*" => 0,
        Some((_, weight)) => below.max(*weight),
        None => below,
    }
}

/// Whether the tag is the range, or below it.
fn is_within(tag: &[u8], range: &[u8]) -> bool {
    let begins = tag.get(..range.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(range));
    begins && !range.is_empty() && tag.get(range.len()).is_none_or(|next| *next == b'-')
}

/// Whether the text has the form of a language tag (RFC 5646 §2.1).
pub(crate) fn is_language_tag(text: &str) -> bool {
    const MAX_TAG_BYTES: usize = 35;
    let is_subtag = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    text.len() <= MAX_TAG_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.split('-').all(is_subtag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    fn choose(languages: &[&str], accepted: &str) -> Option<String> {
        let languages: Vec<String> = languages.iter().map(|language| (*language).to_owned()).collect();
        let mut headers = fields(&[("accept-language", accepted)]);
        choose_language(&languages, &mut headers);
        headers.get(ACCEPT_LANGUAGE).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_best_language_of_the_route_is_chosen() {
        for (languages, accepted, chosen) in [
            (&["en", "de"][..], "de", Some("de")),
            (&["en", "de"], "DE-ch, en;q=0.5", Some("de")),
            (&["en", "de"], "de;q=0.5, en;q=0.8", Some("en")),
            (&["en", "de"], "fr, de;q=0.1", Some("de")),
            // The route decides between equals, and the order does not count.
            (&["en", "de"], "en, de", Some("en")),
            (&["en", "de"], "de, en", Some("en")),
            (&["de", "en"], "en, de", Some("de")),
            (&["en", "de"], "*", Some("en")),
            (&["en", "de"], "fr, *;q=0.5", Some("en")),
            (&["en", "de"], "en;q=0, *", Some("de")),
            (&["en-GB", "en-US"], "en-US, en;q=0.9", Some("en-US")),
            (&["en-GB", "en-US"], "en", Some("en-GB")),
            (&["en"], "en-GB, en;q=0", None),
            (&["en"], "en-GB, *;q=0", Some("en")),
            (&["en"], "english", None),
            (&["en", "de"], "fr", None),
            (&["en", "de"], "", None),
            (&["en", "de"], "de;q=0", None),
            // A member that is malformed says nothing.
            (&["en", "de"], "en;q=x, de;q=0.1", Some("de")),
            (&["en"], "en\", <script>", None),
        ] {
            assert_eq!(choose(languages, accepted).as_deref(), chosen, "{languages:?} {accepted}");
        }
        let mut many = fields(&[("accept-language", &"x,".repeat(MAX_RANGES)), ("accept-language", "de")]);
        choose_language(&["de".to_owned()], &mut many);
        assert_eq!(many.get(ACCEPT_LANGUAGE), None, "the rest is not read");
    }

    #[test]
    fn a_tag_has_its_form() {
        for (text, is_tag) in [
            ("de", true),
            ("zh-Hant-TW", true),
            ("x-a", true),
            ("", false),
            ("*", false),
            ("de_CH", false),
            ("de-", false),
            ("123", false),
            ("abcdefghi", false),
        ] {
            assert_eq!(is_language_tag(text), is_tag, "{text}");
        }
    }
}
