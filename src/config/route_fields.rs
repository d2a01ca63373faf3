//! What one block says about a route: a route's own, `defaults:`, or the built-in defaults. `None` where it is silent.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::fields::{Fields, default_of};
use super::keys::{self, Section};
use super::problem::{Place, Problems};
use super::purged_by::{self, PurgedBy};
use super::scalars::{
    boolean, duration, header_name, list, message_and_help, parse_cookie_name, parse_header_name, parsed,
    positive_duration, positive_size, word,
};
use super::tree::{Node, Value};
use super::units::{self, Wrong};
use super::{expiry, query_rule, suggest};
use crate::policy::query::QueryRule;
use crate::policy::route::{Collapse, Credential, Mode, Overrides, Ttl};
use crate::policy::template::Template;
use crate::policy::ttl_from::TtlFrom;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub place: Place,
}

#[derive(Clone, Debug, Default)]
pub struct RouteFields {
    pub mode: Option<Mode>,
    pub ttl: Option<Placed<Ttl>>,
    /// `Some(None)`: `ttl_from: none`.
    pub ttl_from: Option<Option<TtlFrom>>,
    pub jitter: Option<u8>,
    pub tags: Option<Vec<Placed<Template>>>,
    pub purges: Option<Vec<Placed<Template>>>,
    pub query: Option<QueryRule>,
    pub shared: Option<Placed<bool>>,
    /// `Some(None)`: `per: none`.
    pub per: Option<Placed<Option<Credential>>>,
    pub headers: Option<Vec<HeaderName>>,
    pub cookies: Option<Vec<String>>,
    pub status: Option<BTreeMap<u16, Duration>>,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub refresh_ahead: Option<Duration>,
    pub max_size: Option<u64>,
    pub max_json: Option<u64>,
    pub timeout: Option<Option<Duration>>,
    pub collapse: Option<Collapse>,
    pub collapse_wait: Option<Duration>,
    pub overrides: Option<Placed<Overrides>>,
    pub heuristic: Option<bool>,
    pub any_status: Option<bool>,
    pub request_directives: Option<bool>,
    pub targeted: Option<Vec<HeaderName>>,
    pub hide_tags: Option<bool>,
    pub purged_by: Option<PurgedBy>,
    pub guard: Option<bool>,
    pub settle: Option<Duration>,
}

impl RouteFields {
    pub fn read(fields: &Fields<'_>) -> Self {
        Self {
            mode: fields.optional("mode", mode),
            ttl: fields.optional("ttl", ttl),
            ttl_from: fields.optional("ttl_from", expiry::ttl_from),
            jitter: fields.optional("jitter", expiry::jitter),
            tags: fields.optional("tags", tags),
            purges: fields.optional("purges", purges),
            query: fields.optional("query", query_rule::read),
            shared: fields.optional("shared", |node, problems| placed(node, boolean(node, problems))),
            per: fields.optional("per", per),
            headers: fields.optional("headers", key_headers),
            cookies: fields.optional("cookies", cookies),
            status: fields.optional("status", statuses),
            stale_while_revalidate: fields.optional("stale_while_revalidate", duration),
            stale_if_error: fields.optional("stale_if_error", duration),
            refresh_ahead: fields.optional("refresh_ahead", duration),
            max_size: fields.optional("max_size", positive_size),
            max_json: fields.optional("max_json", positive_size),
            timeout: fields.optional("timeout", timeout),
            collapse: fields.optional("collapse", collapse),
            collapse_wait: fields.optional("collapse_wait", positive_duration),
            overrides: fields.optional("override", overrides),
            heuristic: fields.optional("heuristic", boolean),
            any_status: fields.optional("any_status", boolean),
            request_directives: fields.optional("request_directives", boolean),
            targeted: fields.optional("targeted", targeted),
            hide_tags: fields.optional("hide_tags", boolean),
            purged_by: fields.optional("purged_by", purged_by::read),
            guard: fields.optional("guard", boolean),
            settle: fields.optional("settle", duration),
        }
    }

    /// What the table of keys says.
    pub fn built_in() -> Self {
        let section: &'static Section = &keys::DEFAULTS;
        let written = section
            .keys
            .iter()
            .filter_map(|key| Some((Node::scalar(key.name, Place::Start), default_of(key)?)));
        let node = Node { value: Value::Mapping(written.collect()), place: Place::Start };
        let problems = Problems::default();
        Fields::open(&node, section, &problems).map(|fields| Self::read(&fields)).unwrap_or_default()
    }
}

fn collapse(node: &Node, problems: &Problems) -> Option<Collapse> {
    match node.text() {
        Some("replicas") => Some(Collapse::Replicas),
        Some(word) if suggest::nearest(word, ["replicas"]).is_some() => {
            problems
                .error(node.place, format!("`{word}` is not known here"))
                .help("did you mean `replicas`?");
            None
        }
        _ => boolean(node, problems).map(|here| if here { Collapse::Here } else { Collapse::No }),
    }
}

/// `Some(None)`: `timeout: none`.
fn timeout(node: &Node, problems: &Problems) -> Option<Option<Duration>> {
    match node.text() {
        Some("none") => Some(None),
        _ => positive_duration(node, problems).map(Some),
    }
}

fn placed<T>(node: &Node, value: Option<T>) -> Option<Placed<T>> {
    value.map(|value| Placed { value, place: node.place })
}

/// YAML 1.1 takes `on` and `off` for booleans, and some editors write them so.
fn mode(node: &Node, problems: &Problems) -> Option<Mode> {
    match node.text() {
        Some("true") => Some(Mode::On),
        Some("false") => Some(Mode::Off),
        _ => word(node, &[("on", Mode::On), ("observe", Mode::Observe), ("off", Mode::Off)], problems),
    }
}

fn ttl(node: &Node, problems: &Problems) -> Option<Placed<Ttl>> {
    let read = parsed(node, "a duration, `upstream`, `none` or `never`", problems, |text| match text {
        "upstream" => Ok(Ttl::Upstream),
        "none" => Ok(Ttl::UntilPurged),
        "never" | "false" => Ok(Ttl::Never),
        text => match units::duration(text) {
            Ok(Duration::ZERO) => {
                Err(("a `ttl` of zero keeps nothing".into(), "write `never`: its GETs pass".into()))
            }
            Ok(duration) => Ok(Ttl::For(duration)),
            Err((_, help)) => Err((format!("`{text}` is not a `ttl`"), ttl_help(text, help))),
        },
    });
    placed(node, read)
}

fn ttl_help(text: &str, help: String) -> String {
    match suggest::nearest(text, ["upstream", "none", "never"]) {
        Some(word) if !text.starts_with(|c: char| c.is_ascii_digit()) => format!("did you mean `{word}`?"),
        _ => format!("{help}; or `upstream`, `none`, `never`"),
    }
}

fn templates(node: &Node, problems: &Problems) -> Option<Vec<Placed<Template>>> {
    list(node, "[courses, \"course:{id}\"]", problems, template)
}

fn template(node: &Node, problems: &Problems) -> Option<Placed<Template>> {
    let parse = |text: &str| Template::parse(text).map_err(|wrong| message_and_help(wrong, TEMPLATE_HELP));
    placed(node, parsed(node, "a tag", problems, parse))
}

const TEMPLATE_HELP: &str = "a tag is text with values in braces: `{id}` of the path, `{query.x}`, `{header.x}`, \
                             `{cookie.x}`, `{jwt.sub}`, `{request.json:/x}`, `{request.form:x}`, \
                             `{response.header.x}`, `{response.json:$.items[*].x}`";

fn tags(node: &Node, problems: &Problems) -> Option<Vec<Placed<Template>>> {
    let read = templates(node, problems)?;
    refuse_events(&read, problems);
    for template in read.iter().filter(|template| template.value.reads_request_content()) {
        problems
            .error(template.place, "`tags` can't use the content of the request: a GET has none")
            .help("write it in `purges`: what a write here changes");
    }
    Some(read)
}

/// What a route purges when a write passes; the content of an event is none of its business.
fn purges(node: &Node, problems: &Problems) -> Option<Vec<Placed<Template>>> {
    let read = templates(node, problems)?;
    refuse_events(&read, problems);
    Some(read)
}

fn refuse_events(templates: &[Placed<Template>], problems: &Problems) {
    for template in templates.iter().filter(|template| template.value.reads_event()) {
        problems
            .error(template.place, "a route has no event")
            .help("write it in `purge` of one of `events`; of a request it is `{request.json:/id}`");
    }
}

fn per(node: &Node, problems: &Problems) -> Option<Placed<Option<Credential>>> {
    const HELP: &str = "write `authorization`, `cookie.NAME` or `header.NAME`";
    let read = parsed(node, "`authorization`, `cookie.NAME` or `header.NAME`", problems, |text| {
        match text.split_once('.') {
            None if text.eq_ignore_ascii_case("authorization") => Ok(Some(Credential::Authorization)),
            None if text == "none" => Ok(None),
            Some(("cookie", name)) => parse_cookie_name(name).map(Credential::Cookie).map(Some),
            Some(("header", name)) => match parse_header_name(name)? {
                header::AUTHORIZATION => Ok(Some(Credential::Authorization)),
                header::COOKIE => Err((
                    "all cookies together are not a credential".into(),
                    "name the one: `cookie.NAME`".into(),
                )),
                name => Ok(Some(Credential::Header(name))),
            },
            Some(("jwt", _)) => Err((
                format!("`{text}` is read, not checked: it can't keep callers apart"),
                "write `authorization`: the whole credential".into(),
            )),
            _ => Err((format!("`{text}` names no credential"), HELP.into())),
        }
    });
    placed(node, read)
}

fn key_headers(node: &Node, problems: &Problems) -> Option<Vec<HeaderName>> {
    let names = list(node, "[Accept-Language]", problems, |node, problems| {
        let name = header_name(node, problems)?;
        let help = match name {
            header::AUTHORIZATION => "write `per: authorization`",
            header::COOKIE => "write `cookies: [NAME]`, or `per: cookie.NAME` for the one that says who asks",
            _ => return Some(Placed { value: name, place: node.place }),
        };
        problems.error(node.place, format!("`{name}` can't be a part of the key by `headers`")).help(help);
        None
    })?;
    distinct(names, problems)
}

/// RFC 9213 §2: fields of responses whose names say for which caches they are.
fn targeted(node: &Node, problems: &Problems) -> Option<Vec<HeaderName>> {
    let names = list(node, "[Larder-Cache-Control]", problems, |node, problems| {
        let name = header_name(node, problems)?;
        if name.as_str().ends_with("-cache-control") {
            return Some(Placed { value: name, place: node.place });
        }
        let help =
            "write names such as `Larder-Cache-Control` or `CDN-Cache-Control`, the most specific first";
        problems.error(node.place, format!("`{name}` is not a targeted field (RFC 9213)")).help(help);
        None
    })?;
    distinct(names, problems)
}

fn cookies(node: &Node, problems: &Problems) -> Option<Vec<String>> {
    let names = list(node, "[theme]", problems, |node, problems| {
        placed(node, parsed(node, "the name of a cookie", problems, parse_cookie_name))
    })?;
    distinct(names, problems)
}

/// The values, each of which may stand there once.
pub fn distinct<T: PartialEq + std::fmt::Display>(
    values: Vec<Placed<T>>,
    problems: &Problems,
) -> Option<Vec<T>> {
    let mut right = true;
    for (at, value) in values.iter().enumerate() {
        if let Some(first) = values[..at].iter().find(|first| first.value == value.value) {
            problems
                .error(value.place, format!("`{}` stands twice in the list", value.value))
                .note(first.place, "the first one")
                .help("keep one of them");
            right = false;
        }
    }
    right.then(|| values.into_iter().map(|value| value.value).collect())
}

fn statuses(node: &Node, problems: &Problems) -> Option<BTreeMap<u16, Duration>> {
    let entries = match &node.value {
        Value::Mapping(entries) => entries,
        Value::Broken => return None,
        _ => {
            problems
                .error(node.place, format!("`status` must be a mapping, not {}", node.kind()))
                .help("write each status with its lifetime: `{404: 10s}`");
            return None;
        }
    };
    let read = entries.iter().map(|(key, value)| {
        let status = parsed(key, "a status", problems, status);
        let lifetime = positive_duration(value, problems);
        status.zip(lifetime)
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn status(text: &str) -> Result<u16, Wrong> {
    let code = text
        .parse::<u16>()
        .ok()
        .filter(|code| (100..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok());
    match code.map(|code| code.as_u16()) {
        Some(200 | 203 | 204 | 301 | 308) => {
            Err((format!("{text} is stored for the route's `ttl`"), "leave it out here".into()))
        }
        Some(100..=199 | 206 | 304) => Err((
            format!("a {text} is not a whole response and is never stored by itself"),
            "leave it out".into(),
        )),
        Some(code) => Ok(code),
        None => Err((format!("`{text}` is not a status"), "write a number such as 404".into())),
    }
}

fn overrides(node: &Node, problems: &Problems) -> Option<Placed<Overrides>> {
    let words = [("lifetime", 0_u8), ("private", 1), ("no-cache", 2)];
    let given = list(node, "[lifetime]", problems, |node, problems| word(node, &words, problems))?;
    let has = |which: u8| given.contains(&which);
    placed(node, Some(Overrides { lifetime: has(0), private: has(1), no_cache: has(2) }))
}
