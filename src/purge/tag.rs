//! The tag as purges compare it: without ASCII case, and by segments. A purge of `tenant:a/courses` reaches what carries
//! `tenant:a/courses/7`, and not what carries `tenant:a/coursework`. Numbers and UUIDs have one spelling: a write may name
//! in its content `07` or a UUID without hyphens, and the API finds what `/courses/7` shows.
//!
//! No index knows of it: a response is found by the names of its tags and of all that lies above them.

/// Before a UUID (RFC 9562 §4).
const URN_PREFIX: &str = "urn:uuid:";

/// How many segments a tag of a response may have.
pub(crate) const MAX_TAG_DEPTH: usize = 32;

/// Two tags are the same iff this is. A slash at the end says nothing.
pub(crate) fn normalize_tag(tag: &str) -> String {
    trim_trailing_slashes(tag).to_ascii_lowercase()
}

/// The normalized tag with one spelling of each number and UUID in it.
pub(super) fn fold_values(tag: &str) -> String {
    let text = normalize_tag(tag);
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return text;
    }
    let mut folded = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let starts_word = !folded.ends_with(|last: char| last.is_alphanumeric());
        if let Some((uuid, after)) = uuid(rest).filter(|_| starts_word) {
            let is_braced = folded.ends_with('{') && after.starts_with('}');
            folded.truncate(folded.len() - usize::from(is_braced));
            folded.truncate(folded.strip_suffix(URN_PREFIX).map_or(folded.len(), str::len));
            folded.push_str(&uuid);
            rest = &after[usize::from(is_braced)..];
        } else if let Some((digits, after)) = number(rest).filter(|_| starts_word) {
            folded.push_str(digits);
            rest = after;
        } else {
            folded.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    folded
}

/// A UUID at the start of `text`, with its hyphens, and the text after it.
fn uuid(text: &str) -> Option<(String, &str)> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let is_hyphenated = text.as_bytes().get(8) == Some(&b'-');
    let (uuid, after) = text.split_at_checked(if is_hyphenated { 36 } else { 32 })?;
    let is_digit = |(at, byte): (usize, u8)| match is_hyphenated && HYPHENS.contains(&at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    let is_uuid = uuid.bytes().enumerate().all(is_digit) && is_end_of_word(after);
    let digits = uuid.replace('-', "");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
    is_uuid.then(|| (parts.join("-"), after))
}

/// A whole number at the start of `text`, without its sign, leading zeros and zeros behind a point, and the text after it.
fn number(text: &str) -> Option<(&str, &str)> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (digits, after) = unsigned.split_at(unsigned.bytes().take_while(u8::is_ascii_digit).count());
    if digits.is_empty() || !is_end_of_word(after) {
        return None;
    }
    let fraction = after.strip_prefix('.').map(|fraction| fraction.trim_start_matches('0'));
    let fraction = fraction
        .filter(|rest| rest.len() + 1 < after.len() && is_end_of_word(rest) && !rest.starts_with('.'));
    let after = fraction.unwrap_or(after);
    let significant = digits.trim_start_matches('0');
    Some((if significant.is_empty() { "0" } else { significant }, after))
}

fn is_end_of_word(after: &str) -> bool {
    !after.starts_with(|next: char| next.is_alphanumeric())
}

/// The tag itself, and every tag above it: of `a/b/c` also `a/b` and `a`.
pub(super) fn tag_and_ancestors(tag: &str) -> impl Iterator<Item = &str> {
    let slashes = tag.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &tag[..at]);
    slashes.map(trim_trailing_slashes).filter(|above| !above.is_empty()).chain([tag])
}

/// In how many segments a tag is written.
pub(crate) fn tag_depth(tag: &str) -> usize {
    tag.bytes().filter(|byte| *byte == b'/').count() + 1
}

fn trim_trailing_slashes(tag: &str) -> &str {
    match tag.trim_end_matches('/') {
        "" => tag,
        tag => tag,
    }
}

#[cfg(test)]
mod tests {
    use crate::purge::{NormalizedPath, Target};

    fn reaches(purged: &str, tag: &str) -> bool {
        let targets = Target::ids_for_response("h", &NormalizedPath::new("/p"), "", [tag]);
        targets.contains(&Target::tag(purged).id())
    }

    #[test]
    fn spellings_of_one_number_or_uuid_are_one_tag() {
        for (one, others) in [
            ("p:7", &["p:07", "p:+7", "p:7.0", "p:+007.00", "P:7"][..]),
            ("p:0/x", &["p:00/x", "p:0.0/x"]),
            ("a-7", &["a-07"]),
            (
                "p:5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
                &[
                    "p:5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b",
                    "p:5F0C3E9A-1C2D-4E5F-8A9B-0C1D2E3F4A5B",
                    "p:{5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b}",
                    "p:urn:uuid:5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
                    "p:urn:uuid:{5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b}",
                ],
            ),
        ] {
            for other in others {
                assert!(reaches(one, other) && reaches(other, one), "{one} {other}");
            }
        }
        for (one, other) in [
            ("p:7", "p:70"),
            ("p:7", "p:7.01"),
            ("p:7", "p:7.x"),
            ("p:7", "p:-7"),
            ("p:07a", "p:7a"),
            ("p:a07", "p:a7"),
            ("p:1.0.2", "p:1.2"),
            ("p:5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b", "p:5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5c"),
            ("p:5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b0", "p:5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b"),
        ] {
            assert!(!reaches(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_tag_reaches_what_is_below_it_by_segment() {
        for (purged, tag) in [
            ("tenant:a", "tenant:a"),
            ("tenant:a", "tenant:a/courses"),
            ("tenant:a", "tenant:a/courses/7"),
            ("tenant:a/courses", "tenant:a/courses/7"),
            ("Tenant:A/COURSES", "tenant:a/courses/7"),
            ("tenant:a/", "tenant:a/courses"),
            ("tenant:a", "tenant:a/"),
            ("tenant:a", "tenant:a//courses"),
            ("/", "/"),
            ("/a", "/a/b"),
        ] {
            assert!(reaches(purged, tag), "{purged} {tag}");
        }
        for (purged, tag) in [
            ("tenant:a/courses/7", "tenant:a/courses"),
            ("tenant:a/c", "tenant:a/courses"),
            ("tenant", "tenant:a"),
            ("tenant:a", "tenant:ab/courses"),
            ("courses", "tenant:a/courses"),
            ("", "a/b"),
            ("", "/a"),
            ("*", "a/b"),
            ("tenant:*", "tenant:a/b"),
        ] {
            assert!(!reaches(purged, tag), "{purged} {tag}");
        }
    }
}
