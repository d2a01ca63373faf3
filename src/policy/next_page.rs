//! Finds the page of a list that follows another: by `Link` with `rel=next` (RFC 8288), or by a field of the page.

use http::header::{HOST, LINK};
use http::{HeaderMap, Uri};

use super::content::Content;
use super::field_syntax::find_unquoted;
use super::json_query::JsonQuery;

/// The URL of the next page, as path and query; `None` on the last one. `request_fields` are those of the request for this
/// page.
///
/// # Errors
/// If the reference can't be followed: it leads to another host, or is no URL.
pub(crate) fn find_next_page(
    page: &Uri,
    request_fields: &HeaderMap,
    response_fields: &HeaderMap,
    content: &Content,
    field: Option<&JsonQuery>,
) -> Result<Option<Uri>, String> {
    let reference = match field {
        Some(field) => content.extract_texts(field, 1).map_err(|_| "`next` is no text".to_owned())?.pop(),
        None => next_link(response_fields),
    };
    // `next: false` ends a list, too.
    let Some(reference) = reference.filter(|reference| !matches!(reference.as_str(), "" | "false")) else {
        return Ok(None);
    };
    let target = resolve(page, &reference, request_fields)?;
    match target.parse::<Uri>() {
        Ok(target) if target.authority().is_none() && target.path().starts_with('/') => Ok(Some(target)),
        _ => Err(format!("the next page {reference:?} is no URL")),
    }
}

/// Resolves a reference as far as lists use them: a URL of the same host, a path, or a query.
fn resolve(page: &Uri, reference: &str, request_fields: &HeaderMap) -> Result<String, String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.starts_with('?') {
        return Ok(format!("{}{reference}", page.path()));
    }
    if reference.starts_with('/') && !reference.starts_with("//") {
        return Ok(reference.to_owned());
    }
    let Some((_, rest)) = reference
        .split_once("//")
        .filter(|(scheme, _)| matches!(scheme.to_ascii_lowercase().as_str(), "http:" | "https:" | ""))
    else {
        return Err(format!("the next page {reference:?} is neither a URL nor begins with `/` or `?`"));
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = request_fields.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !authority.eq_ignore_ascii_case(host) {
        return Err(format!("the next page {reference:?} is on another host than {host:?}"));
    }
    Ok(if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
}

/// Whether the response is one page of a list that goes on.
pub(crate) fn has_next_link(fields: &HeaderMap) -> bool {
    next_link(fields).is_some_and(|target| !target.is_empty())
}

/// The target of the first link with `rel=next`.
fn next_link(fields: &HeaderMap) -> Option<String> {
    let values = fields.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(split_links)
        .find(|(_, parameters)| is_next(parameters))
        .map(|(target, _)| target.to_owned())
}

/// The links of one field, each with its parameters.
fn split_links(value: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else { break };
        let end = find_unquoted(after, ',').unwrap_or(after.len());
        links.push((target.trim(), &after[..end]));
        rest = &after[end..];
    }
    links
}

fn is_next(parameters: &str) -> bool {
    let mut rest = parameters;
    while let Some(at) = find_unquoted(rest, ';') {
        rest = &rest[at + 1..];
        let parameter = &rest[..find_unquoted(rest, ';').unwrap_or(rest.len())];
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("rel") {
            // Later ones are ignored (RFC 8288 §3.3).
            let relations = value.trim().trim_matches('"').split_ascii_whitespace();
            return relations.into_iter().any(|relation| relation.eq_ignore_ascii_case("next"));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn next(link: Option<&'static str>, json: &str, field: Option<&str>) -> Result<Option<String>, String> {
        let mut request = HeaderMap::new();
        request.insert(HOST, HeaderValue::from_static("shop.test"));
        let mut response = HeaderMap::new();
        response.extend(link.map(|link| (LINK, HeaderValue::from_static(link))));
        let content = Content::parse_event(json.as_bytes(), 1024).expect("JSON");
        let field = field.map(|field| JsonQuery::parse(field).expect("a query"));
        let page = Uri::from_static("/api/items?page=1");
        let found = find_next_page(&page, &request, &response, &content, field.as_ref());
        found.map(|found| found.map(|uri| uri.to_string()))
    }

    #[test]
    fn a_link_leads_to_the_next_page() {
        for (link, expected) in [
            ("</api/items?page=2>; rel=next", Some("/api/items?page=2")),
            ("<?page=2>; rel=\"next\"", Some("/api/items?page=2")),
            ("</a>; rel=prev, </b?c=1,2>; title=\"x, y; rel=next\"; REL=\"last Next\"", Some("/b?c=1,2")),
            ("<https://shop.test/api/items?page=2#top>; rel=next", Some("/api/items?page=2")),
            ("<//SHOP.test?page=2>; rel=next", Some("/?page=2")),
            ("</a>; rel=prev; rel=next", None),
            ("</a>; title=\"rel=next\"", None),
            ("</a", None),
            ("</a>", None),
            ("<>; rel=next", None),
        ] {
            assert_eq!(next(Some(link), "{}", None), Ok(expected.map(str::to_owned)), "{link}");
        }
        assert_eq!(next(None, r#"{"next": "/a"}"#, None), Ok(None));
    }

    #[test]
    fn a_field_leads_to_the_next_page() {
        for (json, expected) in [
            (r#"{"links": {"next": "/api/items?cursor=x"}}"#, Some("/api/items?cursor=x")),
            (r#"{"links": {"next": null}}"#, None),
            (r#"{"links": {"next": ""}}"#, None),
            (r#"{"links": {"next": false}}"#, None),
            (r#"{"links": {}}"#, None),
        ] {
            let found = next(Some("</other>; rel=next"), json, Some("$.links.next"));
            assert_eq!(found, Ok(expected.map(str::to_owned)), "{json}");
        }
    }

    #[test]
    fn a_reference_that_leads_elsewhere_is_not_followed() {
        for reference in [
            "http://evil.test/a",
            "http://shop.test:81/a",
            "http://shop.test@evil.test/a",
            "//evil.test/a",
            "javascript://shop.test/a",
            "page2",
            "/a b",
        ] {
            let json = serde_json::json!({ "next": reference }).to_string();
            assert!(next(None, &json, Some("/next")).is_err(), "{reference}");
        }
        assert!(next(None, r#"{"next": {"url": "/a"}}"#, Some("/next")).is_err());
    }
}
