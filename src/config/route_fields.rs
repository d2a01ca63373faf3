//! The keys of a block of `routes` or of `defaults`, from the table in `policy/route_keys.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::diagnostics::{Diagnostics, Location};
use super::downstream::DOWNSTREAM;
use super::expect::EXPECT;
use super::expiry::{JITTER, TTL_FROM};
use super::fields::{Fields, Located, default_node};
use super::keys::{Reader, deferred, key};
use super::overlay::{OVERLAY, OVERLAY_AS};
use super::purge_rules::{ENTRIES_KIND, OWN_URL, PURGE_ON, UNCLEAR, read_rule};
use super::query_rule::QUERY;
use super::rate_limit::RATE;
use super::route_callers::{ANONYMOUS, CALLERS, DROP_RESPONSE, EXEMPT, IGNORE_VARY, PER, SHARED};
use super::scalars::{
    BOOLEAN, COUNT, DURATION, POSITIVE_DURATION, POSITIVE_SIZE, distinct, entries, header_names, list,
    one_or_many, parse_cookie_name, parse_header_name, parsed, split_help, words,
};
use super::section::{Key, Kind, NONE, Section};
use super::settings::{Settings, settings};
use super::suggest;
use super::units::{self, FieldError};
use super::yaml::{Value, YamlNode};
use crate::policy::Fingerprint;
use crate::policy::caller::CallerSource;
use crate::policy::content_key::{IgnoredContent, ReadMethods};
use crate::policy::credential::Credential;
use crate::policy::downstream::Downstream;
use crate::policy::dropped_fields::DroppedFields;
use crate::policy::json_query::JsonQuery;
use crate::policy::languages::is_language_tag;
use crate::policy::overlay::{Overlay, OverlayAs};
use crate::policy::path::PathTemplate;
use crate::policy::purge_targets::PurgeRule;
use crate::policy::query::QueryRule;
use crate::policy::rate_limit::RateLimit;
use crate::policy::response_coding::ResponseCoding;
use crate::policy::route::{Anonymous, Collapse, Overrides, OwnUrl, PurgedBy, Route, RouteMode, Shared, Ttl};
use crate::policy::route_keys::route_keys;
use crate::policy::tags::TAG_FIELDS;
use crate::policy::targeted::SURROGATE_CONTROL;
use crate::policy::template::Template;
use crate::policy::ttl_from::TtlFrom;
use crate::policy::write_outcome::{StatusPattern, UnclearEnd};

/// Declares the keys, and the values of one block before the merge.
macro_rules! declare_route_fields {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident $(as $name:literal)? : $type:ty $(as $parsed:ty)? = $reader:ident, $mode:ident $($default:literal)?
        $(, $flag:ident)?;
    )+) => {
        const ROUTE_KEYS: &[Key] = &[$(key!(
            concat!($($doc),+), ($field $($name)?), parsed_type!($type $(, $parsed)?), $reader, ($mode $($default)?)
            $(, $flag)?
        )),+];

        /// The values of a block. `None`: the key is absent, or its value has an error.
        #[derive(Clone, Debug, Default)]
        pub(super) struct RouteFields {
            $(pub $field: Option<Located<parsed_type!($type $(, $parsed)?)>>,)+
        }

        impl RouteFields {
            pub(super) fn read(fields: &Fields<'_>) -> Self {
                Self { $($field: fields.located(key!(@name $field $($name)?), &$reader),)+ }
            }

            /// Takes the values of `other` where this block has none.
            pub(super) fn or(self, other: &Self) -> Self {
                Self { $($field: self.$field.or_else(|| other.$field.clone()),)+ }
            }

            /// The keys that the block has.
            pub(super) fn given_keys(&self) -> Vec<&'static Key> {
                let given = [$(self.$field.is_some()),+];
                ROUTE_KEYS.iter().zip(given).filter(|(_, given)| *given).map(|(key, _)| key).collect()
            }

            /// Makes a route of merged values. Returns `None` if one is missing, because it has an error.
            pub(super) fn into_route(self, index: usize, name: Arc<str>, path: PathTemplate) -> Option<Route> {
                Some(Route {
                    index,
                    name,
                    path,
                    $($field: route_value!($mode, self.$field),)+
                    shared_part: None,
                    lists_targets: false,
                    fingerprint: Fingerprint::default(),
                    lifetime_fingerprint: Fingerprint::default(),
                })
            }
        }
    };
}

macro_rules! parsed_type {
    ($type:ty) => {
        $type
    };
    ($type:ty, $parsed:ty) => {
        $parsed
    };
}

macro_rules! route_value {
    (optional, $located:expr) => {
        $located.map(|located| located.value.into_value())
    };
    ($mode:ident, $located:expr) => {
        $located?.value.into_value()
    };
}

route_keys!(declare_route_fields);

const CODING: Reader<ResponseCoding> = words!(
    "zstd" => ResponseCoding::Zstd, "br" => ResponseCoding::Brotli, "gzip" => ResponseCoding::Gzip
);

const COMPRESS: Reader<Vec<ResponseCoding>> = Reader::new(Kind::ListOf(&CODING.kind), |node, diagnostics| {
    let codings =
        list(node, "[zstd, br, gzip]", diagnostics, |node, diagnostics| CODING.read(node, diagnostics));
    codings.filter(|_| is_distinct(node, diagnostics))
});

/// Reports the texts that occur twice in a list.
fn is_distinct(node: &YamlNode, diagnostics: &Diagnostics) -> bool {
    let written = one_or_many(node)
        .iter()
        .filter_map(|node| Some(Located { value: node.text()?.to_owned(), location: node.location }));
    distinct(written.collect(), diagnostics).is_some()
}

/// Converts a value as it is read into the value of a `Route`.
trait IntoValue<T> {
    fn into_value(self) -> T;
}

impl<T> IntoValue<T> for T {
    fn into_value(self) -> T {
        self
    }
}

impl IntoValue<Vec<Template>> for Vec<Located<Template>> {
    fn into_value(self) -> Vec<Template> {
        self.into_iter().map(|located| located.value).collect()
    }
}

impl IntoValue<Vec<PurgeRule>> for Vec<Located<PurgeRule>> {
    fn into_value(self) -> Vec<PurgeRule> {
        self.into_iter().map(|located| located.value).collect()
    }
}

impl IntoValue<Vec<Overlay>> for Vec<Located<Overlay>> {
    fn into_value(self) -> Vec<Overlay> {
        self.into_iter().map(|located| located.value).collect()
    }
}

impl RouteFields {
    /// The defaults of the table.
    pub(super) fn built_in() -> Self {
        let entries = ROUTE_KEYS
            .iter()
            .filter_map(|key| Some((YamlNode::scalar(key.name, Location::Start), default_node(key)?)));
        let node = YamlNode::new(Value::Mapping(entries.collect()), Location::Start);
        let diagnostics = Diagnostics::default();
        Fields::open(&node, DEFAULTS, &diagnostics).map(|fields| Self::read(&fields)).unwrap_or_default()
    }
}

settings! {
    /// The keys that a route has besides those of `defaults`.
    pub(super) partial struct RouteHeadFields = "a route" {
        /// Segments, `{name}` for any one segment or, as in `{id}:archive`, a part of one, `{notes|tasks}` for one of several,
        /// and at the end `{*rest}` for all that follow, or `{*rest?}` for all or nothing. The most specific route wins.
        path: Vec<PathTemplate> = ROUTE_PATH, required;
        /// The name in metrics and logs; several routes may share one. Default: the path.
        name: String = ROUTE_NAME, optional;
    }
}

pub(super) const ROUTE: &Section =
    &Section { name: "a route", groups: &[RouteHeadFields::SECTION.groups[0], ROUTE_KEYS] };

settings! {
    /// The keys that a group of routes has besides those of `defaults`.
    pub(super) struct GroupHeadFields = "a group of routes" {
        /// The name of the routes that have none of their own.
        name: String = ROUTE_NAME, optional;
        /// The routes of the group, for which its other keys are defaults: those of `defaults` hold where the group has none.
        routes: YamlNode = deferred(Kind::ListOf(&Kind::Mapping(ROUTE))), required;
    }
}

pub(super) const GROUP: &Section =
    &Section { name: "a group of routes", groups: &[GroupHeadFields::SECTION.groups[0], ROUTE_KEYS] };
pub(super) const ROUTES_KIND: Kind =
    Kind::ListOf(&Kind::OneOf(&[Kind::Mapping(ROUTE), Kind::Mapping(GROUP)]));

pub(super) const DEFAULTS: &Section = &Section { name: "defaults", groups: &[ROUTE_KEYS] };
pub(super) const DEFAULTS_KIND: Kind = Kind::Mapping(DEFAULTS);

const ROUTE_PATH: Reader<Vec<PathTemplate>> = Reader::new(Kind::Matching("^/"), |node, diagnostics| {
    const HELP: &str =
        "a path is segments, `{name}` for any one, `{a|b}` for one of several, `{*rest}` for all that follow";
    parsed(node, "a path such as `/api/courses/{id}`", diagnostics, |text| {
        PathTemplate::parse_alternatives(text).map_err(|error| split_help(error, HELP))
    })
});

const ROUTE_NAME: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    const MAX_NAME_BYTES: usize = 200;
    parsed(node, "a name", diagnostics, |text| {
        if !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(char::is_control) {
            return Ok(text.to_owned());
        }
        Err((
            format!("a name has 1 to {MAX_NAME_BYTES} characters"),
            "write a short name, as for a metric".into(),
        ))
    })
});

/// YAML 1.1 reads `on` and `off` as booleans, and some editors write them so.
const MODE: Reader<RouteMode> =
    Reader::new(Kind::OneOf(&[Kind::Word(&["on", "observe", "off"]), Kind::Boolean]), |node, diagnostics| {
        match node.text() {
            Some("true") => Some(RouteMode::On),
            Some("false") => Some(RouteMode::Off),
            _ => words!("on" => RouteMode::On, "observe" => RouteMode::Observe, "off" => RouteMode::Off)
                .read(node, diagnostics),
        }
    });

const TTL: Reader<Ttl> = Reader::new(
    Kind::OneOf(&[Kind::Duration, Kind::Word(&["upstream", "none", "never"])]),
    |node, diagnostics| {
        parsed(node, "a duration, `upstream`, `none` or `never`", diagnostics, |text| match text {
            "upstream" => Ok(Ttl::Upstream),
            "none" => Ok(Ttl::UntilPurged),
            "never" | "false" => Ok(Ttl::Never),
            text => match units::duration(text) {
                Ok(Duration::ZERO) => {
                    Err(("a `ttl` of zero stores nothing".into(), "write `never` to not cache GETs".into()))
                }
                Ok(duration) => Ok(Ttl::For(duration)),
                Err((_, help)) => Err((format!("`{text}` is not a `ttl`"), ttl_help(text, help))),
            },
        })
    },
);

fn ttl_help(text: &str, help: String) -> String {
    match suggest::nearest(text, ["upstream", "none", "never"]) {
        Some(word) if !text.starts_with(|c: char| c.is_ascii_digit()) => format!("did you mean `{word}`?"),
        _ => format!("{help}; or `upstream`, `none`, `never`"),
    }
}

const COLLAPSE: Reader<Collapse> =
    Reader::new(Kind::OneOf(&[Kind::Boolean, Kind::Word(&["replicas"])]), |node, diagnostics| {
        match node.text() {
            Some("replicas") => Some(Collapse::Replicas),
            Some(word) if suggest::nearest(word, ["replicas"]).is_some() => {
                diagnostics
                    .error(node.location, format!("unknown value `{word}`"))
                    .help("did you mean `replicas`?");
                None
            }
            _ => BOOLEAN
                .read(node, diagnostics)
                .map(|collapses| if collapses { Collapse::Local } else { Collapse::No }),
        }
    });

/// `None` stands for `none`.
const TIMEOUT: Reader<Option<Duration>> =
    Reader::new(Kind::OneOf(&[NONE, Kind::Duration]), |node, diagnostics| match node.text() {
        Some("none") => Some(None),
        _ => POSITIVE_DURATION.read(node, diagnostics).map(Some),
    });

const PURGED_BY: Reader<PurgedBy> = words!("rules" => PurgedBy::Rules, "admin" => PurgedBy::Admin);

const TAGS: Reader<Vec<Located<Template>>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let tags = templates(node, diagnostics)?;
    for tag in tags.iter().filter(|tag| tag.value.reads_request_content()) {
        diagnostics
            .error(tag.location, "`tags` can't use the content of the request: a GET has none")
            .help("write it in `purges`, for the tags that a write changes");
    }
    is_distinct(node, diagnostics).then_some(tags)
});

const PURGES: Reader<Vec<Located<PurgeRule>>> = Reader::new(ENTRIES_KIND, |node, diagnostics| {
    let example = "[courses, \"course:{id}\"]";
    list(node, example, diagnostics, |node, diagnostics| read_rule(node, diagnostics, template))
});

fn templates(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Vec<Located<Template>>> {
    list(node, "[courses, \"course:{id}\"]", diagnostics, template)
}

fn template(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Located<Template>> {
    const HELP: &str = "a tag is text with values in braces: `{id}` of the path, `{query.x}`, `{header.x}`, \
                        `{cookie.x}`, `{jwt.sub}`, `{request.json:/x}`, `{request.form:x}`, \
                        `{response.header.x}`, `{response.json:$.items[*].x}`";
    let template: Template = parsed(node, "a tag", diagnostics, |text| {
        Template::parse(text).map_err(|error| split_help(error, HELP))
    })?;
    if template.reads_event() {
        diagnostics.error(node.location, "a route has no event").help(
            "write it in `purge` of one of `events`; for a request's content write `{request.json:/id}`",
        );
    }
    Some(Located { value: template, location: node.location })
}

impl IntoValue<Option<CallerSource>> for Option<String> {
    fn into_value(self) -> Option<CallerSource> {
        None
    }
}

const KEY_HEADERS: Reader<Vec<HeaderName>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    header_names(node, "[Accept-Language]", diagnostics, |name| {
        let help = match *name {
            header::AUTHORIZATION => "write `per: authorization`",
            header::COOKIE => {
                "write `cookies: [NAME]`, or `per: cookie.NAME` for the cookie that identifies the caller"
            }
            _ => return Ok(()),
        };
        Err((format!("`{name}` can't be part of the key by `headers`"), help.into()))
    })
});

/// Targeted cache-control fields (RFC 9213 §2).
const TARGETED: Reader<Vec<HeaderName>> = Reader::new(
    Kind::ListOf(&Kind::Matching("(?i)(-cache-control|^surrogate-control)$")),
    |node, diagnostics| {
        header_names(node, "[Larder-Cache-Control]", diagnostics, |name| {
            if name.as_str().ends_with("-cache-control") || *name == SURROGATE_CONTROL {
                return Ok(());
            }
            Err((
                format!("`{name}` is not a targeted field (RFC 9213)"),
                "write names such as `Larder-Cache-Control`, `CDN-Cache-Control` or `Surrogate-Control`, the most specific first"
                    .into(),
            ))
        })
    },
);

/// Fields that list tags.
const LIST_TAGS: Reader<Vec<HeaderName>> = Reader::new(
    Kind::ListOf(&Kind::Matching("(?i)^(surrogate-key|(edge-|x-)?cache-tags?|purge-cache-tags|[xy]key)$")),
    |node, diagnostics| {
        header_names(node, "[Surrogate-Key]", diagnostics, |name| parse_tag_field(name.as_str()).map(drop))
    },
);

/// Parses the name of a field that lists tags.
pub(super) fn parse_tag_field(text: &str) -> Result<HeaderName, FieldError> {
    let name = parse_header_name(text)?;
    match TAG_FIELDS.contains(&name) {
        true => Ok(name),
        false => Err((
            format!("`{name}` is not a field that lists tags"),
            "write `Surrogate-Key` for Fastly, `Cache-Tag` for Cloudflare, `Edge-Cache-Tag` for Akamai, `xkey` for Varnish"
                .into(),
        )),
    }
}

const READ_METHOD: Reader<u8> = words!("GET" => 0, "QUERY" => 1, "POST" => 2);

const READ_METHODS: Reader<ReadMethods> =
    Reader::new(Kind::ListOf(&READ_METHOD.kind), |node, diagnostics| {
        let given =
            list(node, "[GET, QUERY]", diagnostics, |node, diagnostics| READ_METHOD.read(node, diagnostics))?;
        let has = |which: u8| given.contains(&which);
        if !has(0) {
            diagnostics
                .error(node.location, "`methods` lacks GET, by which every caching route is read")
                .help("write `methods: [GET, POST]`");
            return None;
        }
        Some(ReadMethods { query: has(1), post: has(2) })
    });

const IGNORED_CONTENT: Reader<IgnoredContent> =
    Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
        let mut ignored = IgnoredContent::default();
        let parts = list(node, "[$.requestId]", diagnostics, |node, diagnostics| {
            parsed(node, "a JSONPath, a JSON Pointer or a field name", diagnostics, |text| {
                if !text.starts_with(['$', '/']) {
                    return Ok((None, Some(text.to_owned())));
                }
                let query =
                    JsonQuery::parse(text).map_err(|error| (error, "write `$.requestId`".to_owned()))?;
                Ok((Some(query), None))
            })
        })?;
        for (json, form) in parts {
            ignored.json.extend(json);
            ignored.form.extend(form);
        }
        Some(ignored)
    });

const COOKIES: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let names = list(node, "[theme]", diagnostics, |node, diagnostics| {
        let value = parsed(node, "a cookie name", diagnostics, parse_cookie_name)?;
        Some(Located { value, location: node.location })
    })?;
    distinct(names, diagnostics)
});

const LANGUAGES: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let tags = list(node, "[en, de]", diagnostics, |node, diagnostics| {
        let value = parsed(node, "a language", diagnostics, |text| match is_language_tag(text) {
            true => Ok(text.to_owned()),
            false => Err((
                format!("`{text}` is not a language tag"),
                "write a tag such as `de` or `pt-BR` (RFC 5646)".to_owned(),
            )),
        })?;
        Some(Located { value, location: node.location })
    })?;
    distinct(tags, diagnostics)
});

const STATUSES: Reader<BTreeMap<u16, Duration>> =
    Reader::new(Kind::Statuses(&Kind::Duration), |node, diagnostics| {
        let read = entries(node, "status: {404: 10s}", diagnostics)?.iter().map(|(key, value)| {
            let status = parsed(key, "a status", diagnostics, status);
            status.zip(POSITIVE_DURATION.read(value, diagnostics))
        });
        let read: Vec<_> = read.collect();
        read.into_iter().collect()
    });

fn status(text: &str) -> Result<u16, FieldError> {
    let code = text.parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok());
    match code.map(|code| code.as_u16()) {
        Some(200 | 203 | 204 | 301 | 308) => {
            Err((format!("{text} is stored for the route's `ttl`"), "remove it".into()))
        }
        Some(100..=199 | 206 | 304) => {
            Err((format!("a {text} is not a complete response and is never stored"), "remove it".into()))
        }
        Some(code @ ..600) => Ok(code),
        _ => Err((format!("`{text}` is not a status"), "write a number such as 404".into())),
    }
}

const OVERRIDE: Reader<u8> =
    words!("lifetime" => 0, "private" => 1, "no-cache" => 2, "s-maxage-revalidation" => 3);

const OVERRIDES: Reader<Overrides> = Reader::new(Kind::ListOf(&OVERRIDE.kind), |node, diagnostics| {
    let given = list(node, "[lifetime]", diagnostics, |node, diagnostics| OVERRIDE.read(node, diagnostics))?;
    let has = |which: u8| given.contains(&which);
    Some(Overrides { lifetime: has(0), private: has(1), no_cache: has(2), s_maxage_revalidation: has(3) })
});
