//! A path that stands for several templates: `/api/{notes|tasks}`, `/files/{*rest?}`.

use super::PathTemplate;

/// Maximum number of templates of one path.
const MAX_TEMPLATES: usize = 64;

/// One template for each combination of the path's alternatives; the paths without an optional rest come first.
pub(super) fn expand(text: &str) -> Result<Vec<PathTemplate>, String> {
    let (with_rest, bare) = split_optional_rest(text);
    let mut templates = Vec::new();
    for path in bare.iter().map(|bare| combine(bare)).collect::<Result<Vec<_>, _>>()?.concat() {
        templates.push(PathTemplate { takes_slash: path != "/", ..PathTemplate::parse(&path)? });
    }
    for path in combine(&with_rest)? {
        templates.push(PathTemplate::parse(&path)?);
    }
    Ok(templates)
}

/// Splits `/a/{*rest?}` into `/a/{*rest}` and `/a`.
fn split_optional_rest(text: &str) -> (String, Option<String>) {
    let optional = text.strip_suffix("?}").and_then(|text| text.rsplit_once('/'));
    match optional {
        Some((before, rest)) if rest.starts_with("{*") => {
            let bare = if before.is_empty() { "/" } else { before };
            (format!("{before}/{rest}}}"), Some(bare.to_owned()))
        }
        _ => (text.to_owned(), None),
    }
}

fn combine(text: &str) -> Result<Vec<String>, String> {
    let mut segments = text.split('/');
    let mut paths = vec![segments.next().unwrap_or_default().to_owned()];
    for segment in segments {
        let alternatives = segment_alternatives(segment)?;
        if paths.len() * alternatives.len() > MAX_TEMPLATES {
            return Err(format!(
                "the path stands for more than {MAX_TEMPLATES} paths; write `{{name}}` where any value is right, or \
                 several routes"
            ));
        }
        let extend = |path: &String| -> Vec<String> {
            alternatives.iter().map(|alternative| format!("{path}/{alternative}")).collect()
        };
        paths = paths.iter().flat_map(extend).collect();
    }
    Ok(paths)
}

/// Splits `{notes|tasks}`; any other segment stands for itself.
fn segment_alternatives(segment: &str) -> Result<Vec<&str>, String> {
    if !segment.contains('|') || !segment.contains(['{', '}']) {
        return Ok(vec![segment]);
    }
    let Some(inner) = segment.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return Err(format!(
            "`{segment}`: alternatives are whole segments, all in one pair of braces; write `{{notes|tasks}}`, and \
             paths of other lengths as routes of their own"
        ));
    };
    let alternatives: Vec<&str> = inner.split('|').collect();
    for (at, alternative) in alternatives.iter().enumerate() {
        if alternative.is_empty() {
            return Err(format!(
                "`{segment}` has an empty alternative; remove one `|`, and write the path without the segment as a \
                 route of its own"
            ));
        }
        if alternatives[..at].contains(alternative) {
            return Err(format!("`{segment}` has `{alternative}` twice; remove one of them"));
        }
    }
    Ok(alternatives)
}
