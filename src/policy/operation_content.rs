//! The content of an operation at a path of the API (`admin_at`): what the API's own clients send, in larder's form.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::RequestHead;
use super::content::Content;
use super::json_query::{JsonQuery, UnusableValue};
use super::template::{RenderLimits, Template, TemplateContext};

/// Longer contents are not read.
const MAX_BYTES: usize = 1024 * 1024;

/// The content that `clear` expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClearContent {
    /// The tags that it names.
    pub tags: Vec<Template>,
}

/// The content that `warm` expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WarmContent {
    /// The entry of `warm` that is meant without content.
    pub name: Option<String>,
    /// The route whose parameters have the values.
    pub route: Option<String>,
    pub values: BTreeMap<String, JsonQuery>,
}

/// The content that `refresh` expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RefreshContent {
    /// The time that is meant without content, as it is written.
    pub expiring_within: Option<String>,
}

impl ClearContent {
    /// The tags that the content names; `None`: none of them.
    ///
    /// # Errors
    /// If a value can't be part of a tag.
    pub(crate) fn translate(&self, content: &[u8]) -> Result<Option<Value>, UnusableValue> {
        let content = Content::parse_event(content, MAX_BYTES).ok();
        let headers = HeaderMap::new();
        let context = TemplateContext {
            request: RequestHead::new(&Method::POST, "/", &headers),
            captures: &[],
            request_content: content.as_ref(),
            response_headers: None,
            response_content: None,
            limits: RenderLimits::RESPONSE,
        };
        let tags = self.tags.iter().map(|tag| tag.render(&context)).collect::<Result<Vec<_>, _>>()?.concat();
        Ok((!tags.is_empty()).then(|| json!({ "tags": tags })))
    }
}

impl WarmContent {
    /// The route and its values, or the entry that is meant without content; `None`: the content is in larder's form.
    ///
    /// # Errors
    /// If a value is neither text nor a number.
    pub(crate) fn translate(&self, content: &[u8]) -> Result<Option<Value>, UnusableValue> {
        if is_blank(content) {
            return Ok(self.name.as_ref().map(|name| json!({ "name": name })));
        }
        let content = Content::parse_event(content, MAX_BYTES).ok();
        let (Some(document), Some(route)) = (content.as_ref().and_then(Content::json), &self.route) else {
            return Ok(None);
        };
        let mut values = BTreeMap::new();
        for (name, query) in &self.values {
            let found = query.texts(document).collect::<Result<Vec<_>, _>>()?;
            if found.is_empty() {
                return Ok(None);
            }
            values.insert(name, found);
        }
        Ok(Some(json!({ "route": route, "values": values })))
    }
}

impl RefreshContent {
    /// The time that is meant without content.
    pub(crate) fn translate(&self, content: &[u8]) -> Option<Value> {
        let within = self.expiring_within.as_ref().filter(|_| is_blank(content))?;
        Some(json!({ "expiring_within": within }))
    }
}

/// Nothing, or an empty object.
fn is_blank(content: &[u8]) -> bool {
    let text: Vec<u8> = content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(3).collect();
    matches!(text.as_slice(), b"" | b"{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apis_own_content_names_what_is_meant() {
        let clear =
            ClearContent { tags: vec![Template::parse("file:{request.json:/file_id}").expect("a tag")] };
        let query = JsonQuery::parse("$.file_ids[*]").expect("a path");
        let warm = WarmContent {
            name: Some("recent".into()),
            route: Some("file-url".into()),
            values: BTreeMap::from([("id".to_owned(), query)]),
        };
        let refresh = RefreshContent { expiring_within: Some("5m".into()) };
        for (content, cleared, warmed, refreshed) in [
            ("", None, Some(json!({"name": "recent"})), Some(json!({"expiring_within": "5m"}))),
            (" { } ", None, Some(json!({"name": "recent"})), Some(json!({"expiring_within": "5m"}))),
            (r#"{"file_id": 7}"#, Some(json!({"tags": ["file:7"]})), None, None),
            (
                r#"{"file_ids": [1, "2"]}"#,
                None,
                Some(json!({"route": "file-url", "values": {"id": ["1", "2"]}})),
                None,
            ),
            (r#"{"file_ids": []}"#, None, None, None),
            (r#"{"file_id": null}"#, None, None, None),
            (r#"{"urls": ["/a"]}"#, None, None, None),
            ("{", None, None, None),
        ] {
            let bytes = content.as_bytes();
            assert_eq!(clear.translate(bytes), Ok(cleared), "{content}");
            assert_eq!(warm.translate(bytes), Ok(warmed), "{content}");
            assert_eq!(refresh.translate(bytes), refreshed, "{content}");
        }
        assert_eq!(clear.translate(br#"{"file_id": {"a": 1}}"#), Err(UnusableValue));
        assert_eq!(warm.translate(br#"{"file_ids": [{}]}"#), Err(UnusableValue));
    }
}
