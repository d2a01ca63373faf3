//! Parses path templates; errors say how to write the template.

use super::{AffixedParameter, Segment, is_normal, normalize};

pub(super) fn parse_segments(text: &str) -> Result<Vec<Segment>, String> {
    if text.starts_with(['~', '^']) {
        return Err(reject_expression("the path"));
    }
    if let Some(quoted) = text.strip_prefix(['“', '”', '„', '‘', '’', '«', '»']) {
        let bare = quoted.trim_end_matches(['“', '”', '‘', '’', '«', '»']);
        return Err(format!("typographic quotation marks are part of the text; write `{bare}`"));
    }
    if let Some((_, after)) = text.split_once("://") {
        let path = after.find('/').map_or("/", |at| &after[at..]);
        return Err(format!("a route has a path, not a URL, and holds for all hosts; write `{path}`"));
    }
    let Some(inner) = text.strip_prefix('/') else {
        return Err(match text {
            "*" | "**" | ".*" => {
                "the path must begin with a slash, and `*` stands for itself; write `/{*rest?}`, which is \
                                  every path"
                    .to_owned()
            }
            _ => format!("the path must begin with a slash; write `/{text}`"),
        });
    };
    // `{id?}` is another tool's optional parameter.
    if let Some((at, _)) = text.match_indices(['?', '#']).find(|(at, _)| !text[at + 1..].starts_with('}')) {
        return Err(format!(
            "a path has no query; write `{}`, and name its parameters in `query:`",
            &text[..at]
        ));
    }
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let written: Vec<&str> = inner.split('/').collect();
    let last = written.len() - 1;
    let mut segments = Vec::with_capacity(written.len());
    for (at, segment) in written.iter().enumerate() {
        if segment.is_empty() && at != last {
            return Err(format!("the path has an empty segment; write `{}`", remove_empty_segments(text)));
        }
        let segment = parse_segment(segment)?;
        if at != last
            && let Segment::Rest(name) = &segment
        {
            return Err(format!("`{{*{name}}}` takes the rest of the path and can only be its last segment"));
        }
        segments.push(segment);
    }
    refuse_duplicates(&segments)?;
    Ok(segments)
}

fn parse_segment(segment: &str) -> Result<Segment, String> {
    if let Some(instead) = suggest_brace_style(segment) {
        return Err(format!("`{segment}` is not how a parameter is written here; write `{instead}`"));
    }
    let Some(inner) = segment.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return parse_literal(segment);
    };
    let (name, rest) = match inner.strip_prefix('*') {
        Some(name) => (name, true),
        None => (inner, false),
    };
    if !is_name(name) {
        let star = if rest { "*" } else { "" };
        let instead = match clean_name(name) {
            name if name.is_empty() => "a name".to_owned(),
            name => format!("`{{{star}{name}}}`"),
        };
        return Err(format!(
            "`{segment}`: a parameter's name has letters, digits, `_` and `-` only, and stands alone in its \
             segment; write {instead}"
        ));
    }
    Ok(if rest { Segment::Rest(name.to_owned()) } else { Segment::Parameter(name.to_owned()) })
}

fn parse_literal(segment: &str) -> Result<Segment, String> {
    if segment.contains(['{', '}']) {
        if let Some(parameter) = parse_affixed(segment) {
            return Ok(Segment::Affixed(parameter));
        }
        let instead = match segment.split_once('{').and_then(|(_, after)| after.split_once('}')) {
            Some((name, _)) if is_name(name) => format!("; write `{{{name}}}`, which takes all of it"),
            _ => "; write `{name}`".to_owned(),
        };
        return Err(format!(
            "`{segment}`: a parameter is a whole segment, or has letters, digits and {AFFIX_MARKS} beside it{instead}"
        ));
    }
    let path = format!("/{segment}");
    if is_normal(&path) {
        return Ok(Segment::Literal(segment.to_owned()));
    }
    if segment.contains(['[', ']', '|', '\\', '^']) {
        return Err(reject_expression(&format!("`{segment}`")));
    }
    let encoded = encode_path(&path);
    let normal = normalize(&encoded);
    if is_normal(&normal) && normal.len() > 1 {
        return Err(format!("`{segment}` is not in its normal form; write `{}`", &normal[1..]));
    }
    Err(format!(
        "`{segment}` can be read in more than one way (dot segments, `;`, an encoded separator, control character or \
         second escape); requests for such paths always pass, so a route can't name them"
    ))
}

/// Besides letters and digits, the characters that may stand beside a parameter. No framework reads them otherwise.
const AFFIX_MARKS: &str = "-_~:=@,()'!$";

/// `{id}:archive`, `Courses({id})`.
fn parse_affixed(segment: &str) -> Option<AffixedParameter> {
    let (prefix, rest) = segment.split_once('{')?;
    let (name, suffix) = rest.split_once('}')?;
    let is_affix = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || AFFIX_MARKS.contains(c));
    (is_name(name) && is_affix(prefix) && is_affix(suffix)).then(|| AffixedParameter {
        prefix: prefix.to_owned(),
        name: name.to_owned(),
        suffix: suffix.to_owned(),
    })
}

/// nginx, Varnish and Traefik accept expressions here.
fn reject_expression(what: &str) -> String {
    format!(
        "{what} looks like a regular expression, which a path is not; write `{{name}}` for one segment, `{{a|b}}` for \
         one of several, `{{*rest}}` for all that follow"
    )
}

/// Suggests larder's spelling for parameters in other tools' styles.
fn suggest_brace_style(segment: &str) -> Option<String> {
    let between = |open: &str, close: &str| segment.strip_prefix(open)?.strip_suffix(close);
    let rest = |name: &str| if name.is_empty() { "{*rest}".to_owned() } else { format!("{{*{name}}}") };
    if segment == "*" || segment == "**" {
        return Some(rest(""));
    }
    if let Some(name) = between("[...", "]").or_else(|| between("{...", "}")).or_else(|| between("{", "...}"))
    {
        return Some(rest(&clean_name(name)));
    }
    if let Some(name) = between("{", "*}").or_else(|| between("{**", "}")) {
        return Some(rest(&clean_name(name)));
    }
    if let Some(name) = segment.strip_prefix('*').filter(|name| is_name(name)) {
        return Some(rest(name));
    }
    let name = segment.strip_prefix(':').or_else(|| between("<", ">")).or_else(|| between("[", "]"))?;
    // `<int:id>` has the type first, `:id(\d+)` has it last.
    let name = name.rsplit_once(':').map_or(name, |(_, name)| name);
    let name: String = name.chars().take_while(|c| is_name_char(*c)).collect();
    Some(if name.is_empty() { "{id}".to_owned() } else { format!("{{{name}}}") })
}

fn refuse_duplicates(segments: &[Segment]) -> Result<(), String> {
    let names: Vec<&str> = segments.iter().filter_map(Segment::parameter).collect();
    match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        Some((_, name)) => Err(format!(
            "the parameter `{name}` stands twice; give each a name of its own, such as `{name}_2`"
        )),
        None => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Reduces `id:int` and `id?` to `id`.
fn clean_name(name: &str) -> String {
    name.chars().skip_while(|c| !is_name_char(*c)).take_while(|c| is_name_char(*c)).collect()
}

fn remove_empty_segments(text: &str) -> String {
    let slash = if text.ends_with('/') { "/" } else { "" };
    let segments: Vec<&str> = text.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("/{}{slash}", segments.join("/"))
}

/// Escapes characters that cannot stand in a path.
fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for c in path.chars() {
        if c.is_ascii_graphic() && !"\"<>^`{|}\\".contains(c) {
            encoded.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}
