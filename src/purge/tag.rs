//! The tag as purges compare it: without case, and by segments. A purge of `tenant:a/courses` reaches what carries
//! `tenant:a/courses/7`, and not what carries `tenant:a/coursework`. Numbers and UUIDs have one spelling: a write may name
//! in its content `07` or a UUID without hyphens, and the API finds what `/courses/7` shows.
//!
//! No index knows of it: a response is found by the names of its tags and of all that lies above them.

use super::spelling::{fold_case, split_value};

/// How many segments a tag of a response may have.
pub(crate) const MAX_TAG_DEPTH: usize = 32;

/// Two tags are the same iff this is. A slash at the end says nothing.
pub(crate) fn normalize_tag(tag: &str) -> String {
    fold_case(trim_trailing_slashes(tag))
}

/// The normalized tag with one spelling of each number and UUID in it.
pub(super) fn fold_values(tag: &str) -> String {
    let text = normalize_tag(tag);
    if !text.bytes().any(|byte| byte.is_ascii_digit() || !byte.is_ascii()) {
        return text;
    }
    let mut folded = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let starts_word = !folded.ends_with(|last: char| last.is_alphanumeric());
        if let Some((value, after)) = starts_word.then(|| split_value(rest.trim_start_matches(' '))).flatten()
        {
            folded.push_str(&value);
            let behind = after.trim_start_matches(' ');
            rest = if behind.starts_with(|next: char| next.is_alphanumeric()) { after } else { behind };
        } else {
            // No value stands behind this run of spaces: it is read once.
            let next = if first == ' ' && starts_word {
                rest.trim_start_matches(' ')
            } else {
                &rest[first.len_utf8()..]
            };
            folded.push_str(&rest[..rest.len() - next.len()]);
            rest = next;
        }
    }
    folded
}

/// The tag itself, and every tag above it: of `a/b/c` also `a/b` and `a`.
pub(crate) fn tag_and_ancestors(tag: &str) -> impl Iterator<Item = &str> {
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

    /// Read once for each of its spaces, this would take minutes.
    #[test]
    fn a_run_of_spaces_is_read_once() {
        let spaces = " ".repeat(1 << 20);
        for tag in [format!("7{spaces}b"), format!("7,{spaces}b"), format!("7/{spaces}")] {
            assert_eq!(super::fold_values(&tag).len(), tag.len(), "{tag:.10}");
        }
        assert_eq!(super::fold_values(&format!("7/{spaces}08")), "7/8");
    }

    #[test]
    fn spellings_of_one_number_or_uuid_are_one_tag() {
        for (one, others) in [
            ("p:7", &["p:07", "p:+7", "p:7.0", "p:+007.00", "P:7", "p: 7", "p:7 ", "p:  07 "][..]),
            (
                "p:7",
                &["p:７", "p:٧", "p:۰۷", "p:+７", "p:𝟟", "p:0x7", "p:0X07", "p:0o7", "p:0b111", "p:0x7.0"],
            ),
            ("p:10/x", &["p:１0/x", "p:0xA/x", "p:१०/x"]),
            ("p:0/x", &["p:00/x", "p:0.0/x"]),
            ("a-7", &["a-07"]),
            ("city:Évry/Ähus", &["city:évry/ähus", "CITY:ÉVRY/ÄHUS"]),
            ("city:Киев", &["city:киев", "city:КИЕВ"]),
            ("city:ΟΔΟΣ", &["city:οδος", "city:οδοσ"]),
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
            ("p:7", "p:7-slug"),
            ("p:7", "p:7abc"),
            ("p:7", "p:7,8"),
            ("p:7", "p:7e0"),
            ("p:7", "p:０x7"),
            ("p:7", "p:0x7g"),
            ("p:7", "p:x７"),
            ("p:7", "p:²"),
            ("p:0", "p:0x"),
            ("p:0x100000000000000000000000000000007", "p:7"),
            ("p:7 8", "p:78"),
            ("p:7", "p:7 x"),
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
