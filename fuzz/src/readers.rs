//! Two readers of one request: larder, and an upstream behind CGI, WSGI or PHP, to which all but letters and digits in the
//! name of a field are `-`, and which joins fields of one name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use larder::config::{Config, Underscores};
use larder::explain::{CallerTrust, ExplainRequest, ExplainResponse, Explainer};
use larder::policy::routes::Routes;
use larder::policy::{is_ambiguous_name, override_fields};

use super::NOW;

/// Names that count, their other spellings, and some that do not count.
const NAMES: [&str; 32] = [
    "authorization",
    "cookie",
    "x-api-key",
    "x_api_key",
    "x.api-key",
    "x-user",
    "x_user",
    "x-tenant",
    "x_tenant",
    "x.tenant",
    "x-zone",
    "x_zone",
    "x.zone",
    "x-http-method-override",
    "x_http_method_override",
    "x-original-url",
    "x.original.url",
    "x-forwarded-host",
    "x_forwarded_host",
    "x-forwarded-for",
    "x-forwarded_for",
    "x-real_ip",
    "x-forwarded-prefix",
    "x_forwarded.prefix",
    "forwarded",
    "connection",
    "accept",
    "accept_encoding",
    "x!forwarded!host",
    "x~tenant",
    "x+zone",
    "x|api*key",
];

/// Fields by which only a proxy may say something.
const SET_BY_PROXIES: [&str; 5] =
    ["x-forwarded-host", "x-forwarded-for", "x-real-ip", "x-forwarded-prefix", "forwarded"];

const ROUTES: &str = "upstream: http://a
routes:
  - {path: /plain, ttl: 1m}
  - {path: /keyed, ttl: 1m, headers: [x-tenant, x_zone]}
  - {path: /shared, ttl: 1m, shared: true, headers: [x-api-key]}
  - {path: /per, ttl: 1m, per: authorization, headers: [x-zone]}
";

static CONFIGS: LazyLock<Vec<(Config, Routes)>> = LazyLock::new(|| {
    let parse = |underscores| {
        // Under any other setting no request has `x_zone`, and the name is refused.
        let zone = if underscores == "pass" { "x_zone" } else { "x-zone" };
        let text = format!("{}underscores: {underscores}\n", ROUTES.replace("x_zone", zone));
        let config = Config::parse(&text, "proxy.yaml", &|_| None, &Default::default());
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let routes = Routes::new(&config.routes);
        (config, routes)
    };
    ["drop", "pass", "refuse"].into_iter().map(parse).collect()
});

/// If larder looks a request up, both readers see the same in all fields that identify a caller, that are in the key, or
/// that change which response is asked for. Reports whether it is looked up. The first byte is the configuration and the
/// route; two more are a field.
pub fn readers(data: &[u8]) -> bool {
    let [how, rest @ ..] = data else { return false };
    let (config, routes) = &CONFIGS[usize::from(how / 4) % 3];
    let path = ["/plain", "/keyed", "/shared", "/per"][usize::from(how % 4)];
    let mut sent = HeaderMap::new();
    for (number, field) in rest.chunks_exact(2).take(12).enumerate() {
        let name = HeaderName::from_static(NAMES[usize::from(field[0]) % NAMES.len()]);
        let value = match name.as_str() {
            "connection" => NAMES[usize::from(field[1]) % NAMES.len()].to_owned(),
            "cookie" => format!("c={}", field[1] % 4),
            _ => format!("sent-{}-{number}", field[1] % 4),
        };
        sent.append(name, HeaderValue::try_from(value).expect("plain text"));
    }
    let Ok(request) = ExplainRequest::new("GET", path, sent.clone(), Bytes::new()) else { return false };
    let request = request.with_peer([192, 0, 2, 1].into());
    let explainer = Explainer::new(config, routes, CallerTrust::Assume, NOW);
    let explanation = explainer.explain(&request, &ExplainResponse::default());
    let Some(forwarded) = explanation.lookup().and_then(|_| explainer.forwarded_fields(&request)) else {
        return false;
    };
    let route = explanation.route.as_ref().expect("the route of a lookup");
    let (ours, theirs) = (read_by_name(&sent, config.underscores), read_like_cgi(&forwarded));
    for (variable, value) in &theirs {
        let name = HeaderName::try_from(variable).expect("made of a name");
        if SET_BY_PROXIES.contains(&variable.as_str()) {
            assert!(!value.contains("sent-"), "{variable}: {value} of {sent:?}");
        }
        assert!(override_fields::all().all(|field| *field != name), "{variable} of {sent:?}");
        let mut known: Vec<&str> = route.key_headers().iter().map(HeaderName::as_str).collect();
        known.retain(|known| with_dashes(known) == *variable);
        if name != HOST && config.credentials.identify(&name) {
            known.push(variable);
        }
        if !known.is_empty() {
            let read = ours.iter().filter(|(name, _)| known.contains(&name.as_str()));
            let read = read.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",");
            assert_eq!(*value, read, "{variable} of {sent:?} on {path}");
        }
    }
    true
}

/// Each field that larder does not drop, by its name as it was sent.
fn read_by_name(fields: &HeaderMap, underscores: Underscores) -> BTreeMap<String, String> {
    let lines = |name: &HeaderName| fields.get_all(name).iter().map(text).collect::<Vec<_>>();
    let is_kept = |name: &&HeaderName| underscores == Underscores::Pass || !is_ambiguous_name(name);
    fields
        .keys()
        .filter(is_kept)
        .map(|name| (name.as_str().to_owned(), lines(name).join(separator(name.as_str()))))
        .collect()
}

/// Each field by the name that a variable `HTTP_…` has no other form for, with dashes.
fn read_like_cgi(fields: &HeaderMap) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in fields.keys() {
        let values = fields.get_all(name).iter().map(text);
        variables.entry(with_dashes(name.as_str())).or_default().extend(values);
    }
    variables
        .into_iter()
        .map(|(name, values)| {
            let joined = values.join(separator(&name));
            (name, joined)
        })
        .collect()
}

fn with_dashes(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn separator(name: &str) -> &'static str {
    if name == "cookie" { "; " } else { "," }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
