//! Tag templates: `course:{id}`, `progress:{jwt.sub}`. A value is data: it becomes part of one literal tag.

#[cfg(test)]
mod hostile_tests;
mod needs;
mod parse;
mod reach;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashSet;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};

pub(crate) use needs::TemplateNeed;

use super::caller::CallerView;
use super::content::Content;
use super::cookies::cookie_values;
use super::json_query::{JsonQuery, UnusableValue};
use super::{RequestHead, jwt, query, tags};

/// A text with placeholders, which renders tags, paths or URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<TemplatePart>,
}

/// The name of a capture that no path has: the channel of an event.
pub(crate) const EVENT_CHANNEL: &str = "event.channel";

/// `{caller}` stands for the name of a known caller, unless the path has a parameter of this name.
pub(crate) const CALLER: &str = "caller";

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Literal(String),
    Value(ValueSource),
}

/// A part of a template, for those who render it from other sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplatePiece<'t> {
    Literal(&'t str),
    /// `{id}`
    Parameter(&'t str),
    /// A value of a request, a response or an event.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ValueSource {
    /// `{id}`, and `{caller}`
    Path(String),
    /// `{query.page}`
    Query(String),
    /// `{header.x-guild}`
    Header(HeaderName),
    /// `{cookie.team}`
    Cookie(String),
    /// `{jwt.sub}`
    Jwt(String),
    /// `{request.json:/course_id}`, `{request.json:$.ids[*]}`
    RequestJson(JsonQuery),
    /// `{request.form:course}`
    RequestForm(String),
    /// `{event.json:/id}`
    EventJson(JsonQuery),
    /// `{event.channel}`
    EventChannel,
    /// `{response.header.x-id}`
    ResponseHeader(HeaderName),
    /// `{response.json:$.items[*].id}`, `{response.json:/id}`
    ResponseJson(JsonQuery),
}

/// The sources of a template's values.
#[derive(Clone, Copy, Debug)]
pub struct TemplateContext<'a> {
    /// The request's head.
    pub request: RequestHead<'a>,
    /// The path's parameters.
    pub captures: &'a [(&'a str, String)],
    /// The request's content, once it was sent and can be read; or the change event.
    pub request_content: Option<&'a Content>,
    /// Present once the upstream has answered.
    pub response_headers: Option<&'a HeaderMap>,
    /// Present once the response is complete and can be read.
    pub response_content: Option<&'a Content>,
    /// The bounds of rendering.
    pub limits: RenderLimits<'a>,
}

/// The bounds of rendering.
#[derive(Clone, Copy, Debug)]
pub struct RenderLimits<'a> {
    /// Rendering stops at one tag more.
    pub(crate) max_tags: usize,
    /// Beyond these steps rendering fails; `None`: unlimited.
    pub(crate) steps: Option<&'a StepLimit>,
}

/// A count of rendering steps: 16 bytes of a request's head read, or one value made.
#[derive(Debug)]
pub(crate) struct StepLimit {
    left: Cell<usize>,
    max: usize,
}

/// The tags or values that could be made.
#[derive(Debug, PartialEq)]
pub(crate) struct RenderedTexts {
    pub texts: Vec<String>,
    /// Whether every value could be part of a tag.
    pub is_complete: bool,
}

impl RenderedTexts {
    /// Not even one value could be found.
    pub(crate) const NONE: Self = Self { texts: Vec::new(), is_complete: false };

    pub(crate) fn complete(texts: Vec<String>) -> Self {
        Self { texts, is_complete: true }
    }
}

impl RenderLimits<'_> {
    /// The limits for the tags of a response.
    pub const RESPONSE: Self = Self { max_tags: tags::MAX_TAGS, steps: None };

    fn take(&self, steps: usize) -> Result<(), UnusableValue> {
        self.steps.map_or(Ok(()), |limit| limit.take(steps))
    }

    fn take_bytes(&self, bytes: usize) -> Result<(), UnusableValue> {
        self.take(1 + bytes / 16)
    }
}

impl StepLimit {
    pub(crate) fn new(max: usize) -> Self {
        Self { left: Cell::new(max), max }
    }

    pub(crate) fn used(&self) -> usize {
        self.max - self.left.get()
    }

    fn take(&self, steps: usize) -> Result<(), UnusableValue> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or_default());
        left.map(drop).ok_or(UnusableValue)
    }
}

impl Template {
    /// # Errors
    /// Says what is wrong and what can be written instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), parts: parse::parse_parts(text)? })
    }

    /// The spelling of the configuration.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the path parameters in use.
    pub(crate) fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.sources().filter_map(|source| match source {
            ValueSource::Path(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The claims in use.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.sources().filter_map(|source| match source {
            ValueSource::Jwt(claim) => Some(claim.as_str()),
            _ => None,
        })
    }

    /// Whether it names the caller, or one of its claims.
    pub(crate) fn names_caller(&self) -> bool {
        self.claims().next().is_some() || self.path_parameters().any(|name| name == CALLER)
    }

    /// Whether the tag is the same for every request.
    pub(crate) fn is_literal(&self) -> bool {
        self.sources().next().is_none()
    }

    /// Whether it reads the request's content.
    pub(crate) fn reads_request_content(&self) -> bool {
        self.sources()
            .any(|source| matches!(source, ValueSource::RequestJson(_) | ValueSource::RequestForm(_)))
    }

    /// Whether the request's JSON has all the values it needs.
    pub(crate) fn reads_only_request_json(&self) -> bool {
        self.sources().all(|source| matches!(source, ValueSource::RequestJson(_)))
    }

    pub(crate) fn reads_event(&self) -> bool {
        self.sources().any(|source| matches!(source, ValueSource::EventJson(_) | ValueSource::EventChannel))
    }

    /// Whether an event has all the values it needs.
    pub(crate) fn reads_only_event(&self) -> bool {
        self.sources().all(|source| matches!(source, ValueSource::EventJson(_) | ValueSource::EventChannel))
    }

    /// Whether it reads the event's content.
    pub(crate) fn reads_event_content(&self) -> bool {
        self.sources().any(|source| matches!(source, ValueSource::EventJson(_)))
    }

    pub(crate) fn reads_event_channel(&self) -> bool {
        self.sources().any(|source| matches!(source, ValueSource::EventChannel))
    }

    pub(crate) fn reads_response_content(&self) -> bool {
        self.sources().any(|source| matches!(source, ValueSource::ResponseJson(_)))
    }

    /// Whether it needs more than the head of the request.
    pub(crate) fn needs_exchange(&self) -> bool {
        let of_response = |source: &ValueSource| matches!(source, ValueSource::ResponseHeader(_));
        self.reads_request_content() || self.reads_response_content() || self.sources().any(of_response)
    }

    /// The text with each value replaced by `{…}`, to compare templates apart from parameter names.
    pub(crate) fn shape(&self) -> String {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => text.clone(),
            TemplatePart::Value(_) => "{…}".to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// The literal text before the first value.
    pub(crate) fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(TemplatePart::Literal(text)) => text,
            _ => "",
        }
    }

    /// Renders the tags; none if a value is missing. A source with several values makes a tag for each. Stops at
    /// one more than `tags::MAX_TAGS`.
    ///
    /// # Errors
    /// If a value cannot be part of a tag, or the steps are used up, so that the list would be incomplete.
    pub fn render(&self, sources: &TemplateContext<'_>) -> Result<Vec<String>, UnusableValue> {
        let rendered = self.render_usable(sources)?;
        if rendered.is_complete { Ok(rendered.texts) } else { Err(UnusableValue) }
    }

    /// Renders the tags of the usable values.
    ///
    /// # Errors
    /// If the steps are used up.
    pub(crate) fn render_usable(
        &self,
        sources: &TemplateContext<'_>,
    ) -> Result<RenderedTexts, UnusableValue> {
        let mut rendered = RenderedTexts::complete(vec![String::new()]);
        for part in &self.parts {
            let values = match part {
                TemplatePart::Literal(text) => RenderedTexts::complete(vec![text.clone()]),
                TemplatePart::Value(source) => source.values(sources)?,
            };
            let limits = &sources.limits;
            let mut longer = DistinctTexts::new(limits.max_tags);
            // Stop when there are too many.
            'all: for tag in &rendered.texts {
                for value in &values.texts {
                    limits.take_bytes(tag.len() + value.len())?;
                    if !longer.add(&format!("{tag}{value}")) {
                        break 'all;
                    }
                }
            }
            let is_complete = rendered.is_complete && values.is_complete;
            rendered = RenderedTexts { texts: longer.texts, is_complete };
        }
        Ok(rendered)
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = TemplatePiece<'_>> {
        self.parts.iter().map(|part| match part {
            TemplatePart::Literal(text) => TemplatePiece::Literal(text),
            TemplatePart::Value(ValueSource::Path(name)) => TemplatePiece::Parameter(name),
            TemplatePart::Value(_) => TemplatePiece::Other,
        })
    }

    fn sources(&self) -> impl Iterator<Item = &ValueSource> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Literal(_) => None,
            TemplatePart::Value(source) => Some(source),
        })
    }
}

impl ValueSource {
    /// The escaped values; empty ones count as missing.
    fn values(&self, context: &TemplateContext<'_>) -> Result<RenderedTexts, UnusableValue> {
        let (headers, limits) = (context.request.headers, &context.limits);
        let values: Vec<String> = match self {
            ValueSource::Path(name) => {
                let named = context.captures.iter().filter(|(capture, _)| capture == name);
                let values: Vec<String> = named.map(|(_, value)| value.clone()).collect();
                match context.request.caller.named().and_then(|identity| identity.name.as_deref()) {
                    Some(caller) if values.is_empty() && name == CALLER => vec![caller.to_owned()],
                    _ => values,
                }
            }
            ValueSource::Query(name) => {
                limits.take_bytes(context.request.query.map_or(0, str::len))?;
                let sent = query::query_values(context.request.query, name);
                return distinct_values(sent.iter().flat_map(|value| list_values(value)).map(Ok), limits);
            }
            ValueSource::Header(name) => {
                limits.take_bytes(total_length(headers, name))?;
                let lines = headers.get_all(name).iter().map(|value| lossy_text(value.as_bytes()));
                let lines: Vec<String> = lines.collect();
                return distinct_values(lines.iter().flat_map(|line| list_values(line)).map(Ok), limits);
            }
            ValueSource::Cookie(name) => {
                limits.take_bytes(total_length(headers, &COOKIE))?;
                cookie_values(headers, name).map(lossy_text).collect()
            }
            ValueSource::Jwt(claim) => match context.request.caller {
                CallerView::Known(identity) | CallerView::Stated(identity) => {
                    let text = identity.claim(claim).and_then(|claim| claim.text.as_deref());
                    text.map(str::to_owned).into_iter().collect()
                }
                CallerView::Nobody | CallerView::Uncertain => Vec::new(),
                CallerView::NotAsked => {
                    limits.take_bytes(4 * total_length(headers, &AUTHORIZATION))?;
                    jwt::read_claim(headers, claim).into_iter().collect()
                }
            },
            ValueSource::RequestJson(query) | ValueSource::EventJson(query) => {
                return json_values(context.request_content, query, limits);
            }
            ValueSource::EventChannel => {
                let channel = context.captures.iter().find(|(name, _)| *name == EVENT_CHANNEL);
                channel.map(|(_, channel)| channel.clone()).into_iter().collect()
            }
            ValueSource::RequestForm(name) => {
                context.request_content.map_or_else(Vec::new, |content| content.form_values(name))
            }
            ValueSource::ResponseHeader(name) => {
                context.response_headers.map_or_else(Vec::new, |headers| tags::parse_tag_field(headers, name))
            }
            ValueSource::ResponseJson(query) => return json_values(context.response_content, query, limits),
        };
        distinct_values(values.into_iter().map(Ok), limits)
    }
}

/// A value, and those that it lists: `7,8`, `7` and `8`. So does a query (OpenAPI's `explode: false`, JSON:API), and a field
/// whose lines were combined (RFC 9110 §5.3).
fn list_values(value: &str) -> impl Iterator<Item = String> {
    let listed = value.contains(',').then(|| value.split(','));
    std::iter::once(value).chain(listed.into_iter().flatten()).map(str::to_owned)
}

fn json_values(
    content: Option<&Content>,
    query: &JsonQuery,
    limits: &RenderLimits<'_>,
) -> Result<RenderedTexts, UnusableValue> {
    let Some(document) = content.and_then(Content::json) else {
        return Ok(RenderedTexts::complete(Vec::new()));
    };
    distinct_values(query.texts(document), limits)
}

/// Duplicates do not count against the limit of tags.
fn distinct_values(
    texts: impl Iterator<Item = Result<String, UnusableValue>>,
    limits: &RenderLimits<'_>,
) -> Result<RenderedTexts, UnusableValue> {
    let (mut values, mut is_complete) = (DistinctTexts::new(limits.max_tags), true);
    for text in texts {
        limits.take_bytes(text.as_ref().map_or(0, String::len))?;
        let Ok(text) = text else {
            is_complete = false;
            continue;
        };
        let value = escape_value(text.trim());
        if !value.is_empty() && !values.add(&value) {
            break;
        }
    }
    Ok(RenderedTexts { texts: values.texts, is_complete })
}

fn total_length(headers: &HeaderMap, name: &HeaderName) -> usize {
    headers.get_all(name).iter().map(|value| value.len()).sum()
}

/// Distinct texts, case-insensitively, up to one more than `max`: enough to know that there are too many.
struct DistinctTexts {
    texts: Vec<String>,
    seen: HashSet<String>,
    max: usize,
}

impl DistinctTexts {
    fn new(max: usize) -> Self {
        Self { texts: Vec::new(), seen: HashSet::new(), max }
    }

    /// Adds a text; `false` when full.
    fn add(&mut self, text: &str) -> bool {
        if self.seen.insert(text.to_ascii_lowercase()) {
            self.texts.push(text.to_owned());
        }
        self.texts.len() <= self.max
    }
}

fn lossy_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Percent-encodes characters that could end a tag in a list: control characters, white space and the comma.
pub(crate) fn escape_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_control() || c.is_whitespace() || c == ',' {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}
