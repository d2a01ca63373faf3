//! Properties that hold for any input. Each function is a fuzz target, and larder's own tests run it on generated
//! bytes.
//!
//!     cargo +nightly fuzz run cache_control -- -max_total_time=180

mod events;
mod readers;
mod writes;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, EXPIRES, IF_NONE_MATCH, IF_RANGE, RANGE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::clock::Timestamp;
use larder::config::Config;
use larder::config::rules::Rules;
use larder::explain::{CallerTrust, ExplainRequest, ExplainResponse, Explainer, Explanation, to_json};
use larder::policy::cache_control::CacheControl;
use larder::policy::content::Content;
use larder::policy::path::{is_normal, normalize};
use larder::policy::precondition::evaluate_precondition;
use larder::policy::range::{SelectedRange, select_range};
use larder::policy::routes::Routes;
use larder::policy::tags::parse_list;
use larder::policy::targeted::GoverningDirectives;
use larder::policy::template::{RenderLimits, Template, TemplateContext};
use larder::policy::ttl_from::{TimeSource, TtlFrom};
use larder::policy::vary::Vary;
use larder::policy::{CacheKey, RequestHead};
use larder::policy::{groups, http_date};
use larder::purge::NormalizedPath;
use larder::store::encoding::{ClockOffset, FORMAT_VERSION, decode, encode};
use larder::stored_response::Terms;
use sha2::{Digest, Sha256};

pub use events::events;
pub use readers::readers;
pub use writes::{GeneratedWrite, MAX_TARGETS, ROUTES, writes};

const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
const TARGETED: HeaderName = HeaderName::from_static("larder-cache-control");

/// Lines are lines of a field; bytes that no field can have are left out.
fn field(name: HeaderName, data: &[u8]) -> HeaderMap {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        headers.append(name.clone(), line);
    }
    headers
}

/// `Cache-Control` is read whatever it says, and one more restricting directive never takes a restriction away.
pub fn cache_control(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let read = CacheControl::parse_values(lines.iter().copied());
    for more in
        [&b"no-store, private, no-cache, must-revalidate"[..], b"max-age=1, s-maxage=1, stale-if-error=1"]
    {
        let restricted = CacheControl::parse_values(lines.iter().copied().chain([more]));
        assert!(restricted.no_store >= read.no_store && restricted.private >= read.private);
        assert!(restricted.no_cache >= read.no_cache && restricted.must_revalidate >= read.must_revalidate);
        for (after, before) in [
            (restricted.max_age, read.max_age),
            (restricted.s_maxage, read.s_maxage),
            (restricted.stale_if_error, read.stale_if_error),
        ] {
            assert!(before.is_none_or(|before| after.is_some_and(|after| after <= before)));
        }
    }
    let plain = data.windows(8).any(|word| word == b"no-store") && data.iter().all(|byte| *byte != b'"');
    let alone = |byte: Option<&u8>| byte.is_none_or(|byte| b", \n".contains(byte));
    let at = data.windows(8).position(|word| word == b"no-store");
    if let (true, Some(at)) = (plain, at)
        && alone(at.checked_sub(1).and_then(|before| data.get(before)))
        && alone(data.get(at + 8))
    {
        assert!(read.no_store);
    }
}

/// A date is read or it is not; what is read is written and read again as the same.
pub fn dates(data: &[u8]) {
    if let Some(time) = http_date::parse(data, NOW) {
        let written = http_date::format(time);
        assert_eq!(http_date::parse(written.as_bytes(), NOW), Some(time));
    }
    let headers = field(EXPIRES, data);
    let lines = headers.get_all(EXPIRES).iter().count();
    assert!(http_date::parse_field(&headers, EXPIRES, NOW).is_none() || lines == 1);
    own_end(&headers);
}

/// The expiry that a response gives itself shortens its terms or refuses it, in any spelling.
fn own_end(headers: &HeaderMap) {
    let hour = Duration::from_secs(3600);
    let terms = Terms {
        freshness_lifetime: hour,
        stale_while_revalidate: hour,
        stale_if_error: hour,
        always_validate: false,
        must_revalidate: false,
        expires_at: NOW.plus(2 * hour),
        ..Terms::unstored(NOW, NOW)
    };
    let from = TtlFrom { source: TimeSource::Header(EXPIRES), minus: Duration::from_secs(60) };
    if let Ok(bound) = from.bound_terms(terms, headers, None) {
        assert!(NOW < bound.expires_at && bound.expires_at <= terms.expires_at);
        let served =
            |terms: &Terms| terms.freshness_lifetime + terms.stale_if_error.max(terms.stale_while_revalidate);
        assert!(NOW.plus(served(&bound)) <= bound.expires_at && served(&bound) <= served(&terms));
    }
}

/// Targeted fields, groups and `Vary` say something or nothing, and never break.
pub fn structured_fields(data: &[u8]) {
    let governing = GoverningDirectives::select(&[TARGETED], &field(TARGETED, data));
    if !governing.targeted {
        assert_eq!(governing.directives, CacheControl::default());
    }
    let nothing = HeaderMap::new();
    let request = RequestHead { host: "a", ..RequestHead::new(&Method::POST, "/", &nothing) };
    let headers = field(groups::CACHE_GROUP_INVALIDATION, data);
    let targets = groups::invalidated_targets(&request, &headers);
    assert!(targets.len() <= data.len());
    let vary = field(VARY, data);
    if vary.get_all(VARY).iter().any(|line| line == "*") {
        assert_eq!(Vary::parse(&vary), Vary::Everything);
    }
}

/// A normal path is its own normal form, so a path is cached under one spelling. (A path that is not normal may decode
/// to one that decodes again.)
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = format!("/{text}");
    let normal = normalize(&path);
    assert!(normal.starts_with('/'));
    if is_normal(&path) {
        assert_eq!(normal, path);
        assert_eq!(NormalizedPath::new(&path), NormalizedPath::new(&normal));
    }
    let loose = NormalizedPath::new(&path);
    assert!(loose.as_str().starts_with('/'));
    assert!(loose.prefixes().all(|prefix| loose.as_str().starts_with(prefix)));
}

/// Parts lie within the content and apart; conditions are judged whatever they say.
pub fn ranges(data: &[u8]) {
    let (head, rest) = data.split_at(data.len().min(2));
    let length = head.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let mut request = field(RANGE, rest);
    let mut stored = HeaderMap::new();
    if let Some(line) =
        rest.split(|byte| *byte == b'\n').nth(1).and_then(|line| HeaderValue::from_bytes(line).ok())
    {
        request.insert(IF_RANGE, line.clone());
        request.insert(IF_NONE_MATCH, line.clone());
        stored.insert(ETAG, line);
    }
    if let SelectedRange::Parts(mut parts) = select_range(&request, &stored, length) {
        assert!(!parts.is_empty());
        parts.sort_unstable();
        assert!(parts.iter().all(|(first, last)| first <= last && *last < length));
        assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }
    evaluate_precondition(&Method::GET, &request, StatusCode::OK, &stored, NOW);
}

/// Stored bytes decode or are rejected, and what decodes survives a round trip. The first byte is the kind, the second
/// the start of the content; the rest is sealed as larder does it.
pub fn stored_response(data: &[u8]) {
    let (key, clocks) = (CacheKey([7; 32]), ClockOffset::default());
    assert!(decode(&key, &Bytes::copy_from_slice(data), &clocks).is_none() || data.starts_with(b"lrdr"));
    let [kind, at, rest @ ..] = data else { return };
    let (head, content) = rest.split_at(rest.len() * usize::from(*at) / 255);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
    let head = [&key.0[..], head].concat();
    let before = [&b"lrdr"[..], &[FORMAT_VERSION, kind % 3], &length(&head), &length(content)].concat();
    let after = [&head[..], content].concat();
    let seal = Sha256::digest([&before[..], &after[..]].concat());
    let value = Bytes::from([&before[..], &seal[..8], &after[..]].concat());
    if let Some(stored) = decode(&key, &value, &clocks) {
        let again = encode(&key, &stored, &clocks).expect("it was short enough before");
        let read = decode(&key, &again, &clocks).expect("larder reads what it writes");
        assert_eq!(format!("{stored:?}"), format!("{read:?}"));
    }
}

/// The first line is a template, the second a query, the third a field, the rest a content. Any input renders to one
/// literal tag.
pub fn templates(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let Ok(template) = str::from_utf8(line()) else { return };
    let Ok(template) = Template::parse(template) else { return };
    let query = String::from_utf8_lossy(line());
    let mut headers = field(HeaderName::from_static("a"), line());
    let body = line();
    let read = |content_type: &'static str| {
        let headers = field(HeaderName::from_static("content-type"), content_type.as_bytes());
        Content::parse_request(&headers, body, 10_000).ok()
    };
    let (json, form) = (read("application/json"), read("application/x-www-form-urlencoded"));
    let values: Vec<HeaderValue> = headers.values().cloned().collect();
    for value in values {
        headers.append(http::header::COOKIE, value);
    }
    let request =
        RequestHead { host: "a", query: Some(&query), ..RequestHead::new(&Method::POST, "/", &headers) };
    for request_content in [json.as_ref(), form.as_ref()] {
        let captures = [("a", query.to_string())];
        let sources = TemplateContext {
            request,
            captures: &captures,
            request_content,
            response_headers: Some(&headers),
            response_content: json.as_ref(),
            limits: RenderLimits::RESPONSE,
        };
        for tag in template.render(&sources).unwrap_or_default() {
            assert_eq!(parse_list(&tag), [tag.as_str()]);
        }
    }
}

/// Every source of values, on a route that caches.
const EXPLAINED: &str = "upstream: http://a
routes:
  - path: /a/{a}
    ttl: 1m
    shared: true
    query: {a: 1}
    tags: ['p:{a}', 'q:{query.a}', 'h:{header.a}', 'c:{cookie.a}', 'j:{jwt.a}', 'r:{response.header.a}', 'b:{response.json:$..a}']
    purges: ['n:{request.json:$..a}', 'f:{request.form:a}', l]
";

/// The first line is a method and a target, the second request fields, the third response fields, the rest a content.
/// Any input is explained with literal tags, and tags never change the key.
pub fn explain(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (asked, of_request, of_response, body) = (line(), line(), line(), Bytes::copy_from_slice(line()));
    let Ok(asked) = str::from_utf8(asked) else { return };
    let (method, target) = asked.split_once(' ').unwrap_or(("GET", asked));
    let target = format!("/a/{target}");
    let (mut headers, name) = (field(HeaderName::from_static("a"), of_request), HeaderName::from_static("a"));
    for value in headers.get_all("a").iter().cloned().collect::<Vec<_>>() {
        headers.append(http::header::AUTHORIZATION, value.clone());
        headers.append(http::header::COOKIE, value);
    }
    let Ok(question) = ExplainRequest::new(method, &target, headers.clone(), body.clone()) else { return };
    let Ok(config) = Config::parse(EXPLAINED, "proxy.yaml", &|_| None, &Default::default()) else { return };
    let routes = Routes::new(&config.routes);
    let explainer = Explainer::new(&config, &routes, CallerTrust::Assume, NOW);
    let reply =
        ExplainResponse { status: StatusCode::OK, headers: field(name, of_response), body: Some(body) }
            .with_default_type();
    let explanation = explainer.explain(&question, &reply);
    assert!(!explainer.text(&explanation).to_string().is_empty());
    assert!(to_json(&explanation, &routes).is_object());
    for tag in explanation.stored().map_or(&[][..], |stored| &stored.tags) {
        assert_eq!(parse_list(tag), [tag.as_str()]);
    }
    let plain = ExplainResponse { headers: field(HeaderName::from_static("b"), of_response), ..reply };
    let other = explainer.explain(&question, &plain.with_default_type());
    let key = |explanation: &Explanation| explanation.lookup().map(|reading| reading.key);
    assert_eq!(key(&explanation), key(&other));
}

/// A file is taken or refused, with something to say; as `proxy.yaml`, to lint, and as a file of rules.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Err(errors) = Rules::parse(text, "rules.yaml", &|_| None) {
        assert!(!errors.to_string().is_empty());
    }
    let linted = Config::lint(text, "proxy.yaml", &|_| None, &Default::default());
    assert!(linted.iter().flatten().all(|finding| finding.text.contains("help: ")));
    if let Err(errors) = Config::parse(text, "proxy.yaml", &|_| None, &Default::default()) {
        assert!(!errors.to_string().is_empty());
    }
}

#[cfg(test)]
mod tests {
    /// Words that each of the readers knows, so that generated bytes get past the first test of each.
    const WORDS: [&str; 72] = [
        "2026-11-21T03:00:00Z",
        "2026-01-01T00:00:00.5+01:00",
        "1767225700",
        "1767225700000",
        "max-age",
        "s-maxage",
        "no-store",
        "no-cache",
        "private",
        "public",
        "must-revalidate",
        "stale-if-error",
        "=",
        ",",
        ";",
        "\"",
        "\\",
        " ",
        "\n",
        "0",
        "1",
        "99999999999",
        "-",
        "bytes=",
        "0-1",
        "-5",
        "5-",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "GMT",
        "Nov",
        ":",
        "/",
        "..",
        ".",
        "%2e",
        "%2F",
        "%25",
        "%C3%A9",
        "%",
        "*",
        "(",
        ")",
        "?0",
        "W/",
        "A",
        "é",
        "{",
        "}",
        "{request.json:",
        "{request.form:a}",
        "{response.json:$.",
        "{response.header.a}",
        "{query.a}",
        "{a}",
        "a=",
        "&",
        "{\"a\":",
        "[",
        "]",
        "$",
        "@",
        "\n\n",
        "upstream: http://a\n",
        "routes: [{path: /",
        "tags: [\"",
        "ttl: ",
        "  ",
        "${",
        "\"id\"",
        "null",
    ];

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
        }

        fn byte(&mut self) -> u8 {
            u8::try_from(self.below(256)).unwrap()
        }

        fn bytes(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            for _ in 0..self.below(12) {
                match self.below(6) {
                    0 => bytes.push(self.byte()),
                    _ => bytes.extend_from_slice(WORDS[self.below(WORDS.len())].as_bytes()),
                }
            }
            bytes
        }
    }

    #[test]
    fn each_target_holds_on_generated_bytes() {
        let count = std::env::var("LARDER_GENERATED_CASES")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(200_000);
        // Each is tried by every target.
        let count = count / 10;
        let mut random = Random(1);
        for _ in 0..count {
            let bytes = random.bytes();
            for target in [
                super::cache_control,
                super::dates,
                super::structured_fields,
                super::paths,
                super::ranges,
                super::stored_response,
                super::templates,
                super::events,
            ] {
                target(&bytes);
            }
        }
        // Reading a file takes longer.
        for _ in 0..count / 10 {
            super::config(&random.bytes());
            super::explain(&random.bytes());
        }
        for _ in 0..count / 400 {
            super::writes(&random.bytes());
        }
        let requests = count / 4;
        let looked_up = (0..requests).filter(|_| {
            let bytes: Vec<u8> = (0..1 + 2 * random.below(7)).map(|_| random.byte()).collect();
            super::readers(&bytes)
        });
        // Otherwise it would prove nothing.
        assert!(looked_up.count() > requests / 10);
    }
}
