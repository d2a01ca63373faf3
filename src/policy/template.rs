//! Tag templates: `course:{id}`, `progress:{jwt.sub}`. A value is data: it becomes part of one literal tag.

#[cfg(test)]
mod hostile_tests;
mod needing;
mod parse;
mod reaching;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use http::header::{HeaderMap, HeaderName};

pub use needing::Needs;

use super::content::Content;
use super::json_query::{JsonQuery, Unusable};
use super::{RequestHead, credentials, query, tags};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Source),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// `{id}`
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
    /// `{response.header.x-id}`
    ResponseHeader(HeaderName),
    /// `{response.json:$.items[*].id}`, `{response.json:/id}`
    ResponseJson(JsonQuery),
}

/// Where the values come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub request: RequestHead<'a>,
    /// The path's parameters.
    pub captures: &'a [(&'a str, String)],
    /// What the request carries, once it is sent and can be read; or the change event, which has no other parts.
    pub request_content: Option<&'a Content>,
    /// Known once there is a response.
    pub response_headers: Option<&'a HeaderMap>,
    /// Known once the response is whole, if it can be read.
    pub response_content: Option<&'a Content>,
}

impl Template {
    /// The error says what is wrong and what can be written instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), parts: parse::parts(text)? })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of the path parameters it uses.
    pub fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.sources().filter_map(|source| match source {
            Source::Path(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it stands for the same tag whatever the request.
    pub fn is_literal(&self) -> bool {
        self.sources().next().is_none()
    }

    /// What of a request's content it needs.
    pub fn reads_request_content(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::RequestJson(_) | Source::RequestForm(_)))
    }

    pub fn reads_event(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::EventJson(_)))
    }

    /// Whether an event is all that it needs.
    pub fn reads_nothing_but_an_event(&self) -> bool {
        self.sources().all(|source| matches!(source, Source::EventJson(_)))
    }

    pub fn reads_response_content(&self) -> bool {
        self.sources().any(|source| matches!(source, Source::ResponseJson(_)))
    }

    /// Whether more than the head of the request is needed to render it.
    pub fn is_known_late(&self) -> bool {
        let of_response = |source: &Source| matches!(source, Source::ResponseHeader(_));
        self.reads_request_content() || self.reads_response_content() || self.sources().any(of_response)
    }

    /// Its text with each value as `{…}`: the same tag by other names is the same.
    pub fn shape(&self) -> String {
        let part = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Value(_) => "{…}".to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// What every tag that it makes begins with.
    pub fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The tags it makes; none if a value is missing. A source with several values makes a tag for each: too many
    /// tags purge too much, too few would leave something stale. Never more than one above [`tags::MAX_TAGS`].
    ///
    /// # Errors
    /// If there is a value that no tag can be made of, so that the tags would not be all.
    pub fn render(&self, sources: &Sources<'_>) -> Result<Vec<String>, Unusable> {
        let mut rendered = vec![String::new()];
        for part in &self.parts {
            let values = match part {
                Part::Literal(text) => vec![text.clone()],
                Part::Value(source) => source.values(sources)?,
            };
            let mut longer = Distinct::default();
            let every =
                rendered.iter().flat_map(|tag| values.iter().map(move |value| format!("{tag}{value}")));
            // Stops where there are too many.
            let _ = every.take_while(|tag| longer.add(tag)).count();
            rendered = longer.texts;
        }
        Ok(rendered)
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Value(source) => Some(source),
        })
    }
}

impl Source {
    /// Ready to stand in a tag; an empty value counts as missing.
    fn values(&self, sources: &Sources<'_>) -> Result<Vec<String>, Unusable> {
        let headers = sources.request.headers;
        let values: Vec<String> = match self {
            Source::Path(name) => {
                let named = sources.captures.iter().filter(|(capture, _)| capture == name);
                named.map(|(_, value)| value.clone()).collect()
            }
            Source::Query(name) => query::values(sources.request.query, name),
            Source::Header(name) => {
                headers.get_all(name).iter().map(|value| text_of(value.as_bytes())).collect()
            }
            Source::Cookie(name) => credentials::cookie_values(headers, name).map(text_of).collect(),
            Source::Jwt(claim) => credentials::jwt_claim(headers, claim).into_iter().collect(),
            Source::RequestJson(query) | Source::EventJson(query) => of_json(sources.request_content, query)?,
            Source::RequestForm(name) => {
                sources.request_content.map_or_else(Vec::new, |content| content.form_values(name))
            }
            Source::ResponseHeader(name) => {
                sources.response_headers.map_or_else(Vec::new, |headers| tags::listed_in(headers, name))
            }
            Source::ResponseJson(query) => of_json(sources.response_content, query)?,
        };
        Ok(values.iter().map(|value| escaped(value)).filter(|value| !value.is_empty()).collect())
    }
}

/// A content may have many more values than there may be tags, as long as they are the same ones again.
fn of_json(content: Option<&Content>, query: &JsonQuery) -> Result<Vec<String>, Unusable> {
    let Some(document) = content.and_then(Content::json) else { return Ok(Vec::new()) };
    let mut values = Distinct::default();
    for text in query.texts(document) {
        let value = escaped(&text?);
        if !value.is_empty() && !values.add(&value) {
            break;
        }
    }
    Ok(values.texts)
}

/// Texts that make different tags, up to one more than a response may have: what comes after that is not needed to know
/// that they are too many. To count before telling which are the same would leave some out.
#[derive(Default)]
struct Distinct {
    texts: Vec<String>,
    seen: HashSet<String>,
}

impl Distinct {
    /// Whether there is room for more.
    fn add(&mut self, text: &str) -> bool {
        if self.seen.insert(text.to_ascii_lowercase()) {
            self.texts.push(text.to_owned());
        }
        self.texts.len() <= tags::MAX_TAGS
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Percent-encodes what could end a tag in a list of tags: control characters, white space and the comma.
pub fn escaped(value: &str) -> String {
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
