//! URL templates: `/api/courses/{id}?page={page}`, `/api/files/{}/url`. A value is data: it fills its placeholder
//! and adds neither a segment nor a parameter.

use std::collections::BTreeMap;

use http::Uri;

use crate::purge::is_unreserved;

/// Maximum URLs made of one template.
pub(crate) const MAX_URLS: usize = 100_000;

/// The placeholder for the number of a list's page.
pub(crate) const PAGE_NUMBER: &str = "page";

/// The values by placeholder; the name of `{}` is empty.
pub(crate) type PlaceholderValues = BTreeMap<String, Vec<String>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlTemplate {
    text: String,
    parts: Vec<UrlPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum UrlPart {
    Literal(String),
    Place(String),
}

impl UrlTemplate {
    /// # Errors
    /// Says what is wrong and, after a semicolon, what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || text.starts_with("//") {
            return Err(format!("`{text}` is no path; write it from its first `/`, without scheme and host"));
        }
        if let Some(wrong) = text.chars().find(|c| !c.is_ascii_graphic() || "#\"<>\\^`|".contains(*c)) {
            return Err(format!("{wrong:?} can't stand in a URL; write it as %XX"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("a brace of `{text}` is not closed; write `{{name}}`"));
            };
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!(
                    "`{{{name}}}` is no name of a value; use letters, digits and `_`, or `{{}}` with `from`"
                ));
            }
            parts.push(UrlPart::Literal(before.to_owned()));
            parts.push(UrlPart::Place(name.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("a brace of `{text}` is not opened; write `{{name}}`"));
        }
        parts.push(UrlPart::Literal(rest.to_owned()));
        Ok(Self { text: text.to_owned(), parts })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the placeholders; that of `{}` is empty.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            UrlPart::Place(name) => Some(name.as_str()),
            UrlPart::Literal(_) => None,
        })
    }

    /// One URL for each combination of values, at most [`MAX_URLS`]; none if a placeholder has no value. Invalid or
    /// too long URLs are skipped.
    pub(crate) fn expand(&self, values: &PlaceholderValues) -> Vec<Uri> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.placeholders() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut filled: Vec<Vec<&str>> = vec![Vec::new()];
        for name in &names {
            let known = values.get(*name).map_or(&[][..], Vec::as_slice);
            let longer = filled.iter().flat_map(|before| {
                known.iter().map(move |value| before.iter().copied().chain([value.as_str()]).collect())
            });
            filled = longer.take(MAX_URLS).collect();
        }
        filled.iter().filter_map(|chosen| self.fill(&names, chosen).parse().ok()).collect()
    }

    fn fill(&self, names: &[&str], chosen: &[&str]) -> String {
        let part = |part: &UrlPart| match part {
            UrlPart::Literal(text) => text.clone(),
            UrlPart::Place(name) => {
                let at = names.iter().position(|known| known == name);
                at.and_then(|at| chosen.get(at)).map(|value| encode_value(value)).unwrap_or_default()
            }
        };
        self.parts.iter().map(part).collect()
    }
}

/// Escapes everything that is not unreserved (RFC 3986 §2.3). Values of dots alone are escaped too, since they
/// would be dot segments.
fn encode_value(value: &str) -> String {
    let is_step = matches!(value, "." | "..");
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match is_unreserved(byte) && !is_step {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(template: &str, values: &[(&str, &[&str])]) -> Vec<String> {
        let values = values
            .iter()
            .map(|(name, values)| (name.to_string(), values.iter().map(|value| value.to_string()).collect()))
            .collect();
        let template = UrlTemplate::parse(template).unwrap_or_else(|error| panic!("{error}"));
        template.expand(&values).iter().map(Uri::to_string).collect()
    }

    #[test]
    fn there_is_a_url_for_each_combination_of_values() {
        assert_eq!(urls("/a?b=c", &[]), ["/a?b=c"]);
        assert_eq!(urls("/a/{id}", &[("id", &["1", "2"])]), ["/a/1", "/a/2"]);
        assert_eq!(urls("/{a}/{b}/{a}", &[("a", &["1", "2"]), ("b", &["x"])]), ["/1/x/1", "/2/x/2"]);
        assert_eq!(urls("/f/{}/url", &[("", &["7"])]), ["/f/7/url"]);
        assert_eq!(urls("/a/{id}", &[("id", &[])]), [""; 0]);
        assert_eq!(urls("/a/{id}", &[]), [""; 0]);
    }

    #[test]
    fn a_value_stays_within_its_place() {
        for (value, expected) in [
            ("a/b", "/f/a%2Fb"),
            ("?x=1&y#z", "/f/%3Fx%3D1%26y%23z"),
            ("..", "/f/%2E%2E"),
            ("%2e", "/f/%252e"),
            ("ü \r\n{id}", "/f/%C3%BC%20%0D%0A%7Bid%7D"),
        ] {
            assert_eq!(urls("/f/{id}", &[("id", &[value])]), [expected]);
        }
        let long = "x".repeat(70_000);
        assert_eq!(urls("/f/{id}", &[("id", &[&long, "1"])]), ["/f/1"]);
    }

    #[test]
    fn too_many_combinations_are_cut_off() {
        let many: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
        let values = ["a", "b", "c"].map(|name| (name.to_owned(), many.clone())).into();
        assert_eq!(UrlTemplate::parse("/{a}/{b}/{c}").unwrap().expand(&values).len(), MAX_URLS);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, why) in [
            ("a", "is no path"),
            ("http://a/b", "is no path"),
            ("//a", "is no path"),
            ("/a b", "can't stand in a URL"),
            ("/a#b", "can't stand in a URL"),
            ("/{a", "is not closed"),
            ("/a}", "is not opened"),
            ("/{a.b}", "is no name of a value"),
        ] {
            let error = UrlTemplate::parse(text).expect_err(text);
            assert!(error.contains(why) && error.contains("; "), "{error}");
        }
    }
}
