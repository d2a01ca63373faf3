//! Decodes percent-encoded paths and queries, and JSON contents.

use serde::Deserialize;

use super::response::AdminError;
use crate::policy::path::decode_escapes;

/// The parameter that may be given more than once: a field of the request to explain.
const REPEATED: &str = "header";

/// Parses a JSON object. serde would take an array, too, with the fields in their order.
pub(super) fn parse_object<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, String> {
    if body.trim_ascii_start().starts_with(b"[") {
        return Err("expected an object, not an array".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Decodes the parameters of a query.
pub(super) fn query_pairs(query: Option<&str>) -> Result<Vec<(String, String)>, AdminError> {
    let decoded = |text: &str| {
        percent_decode(&text.replace('+', " "))
            .ok_or_else(|| AdminError::bad_request("the query is not UTF-8", "write it as %XX"))
    };
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if name != REPEATED && pairs.iter().any(|(other, _)| *other == name) {
            return Err(AdminError::bad_request(
                format!("the parameter `{name}` is given twice"),
                "leave one",
            ));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Percent-decodes; invalid escapes stay as they are. `None` if the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    String::from_utf8(decode_escapes(text).into_owned()).ok()
}
