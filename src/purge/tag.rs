//! The tag as purges compare it: without ASCII case, and by segments. A purge of `tenant:a/courses` reaches what carries
//! `tenant:a/courses/7`, and not what carries `tenant:a/coursework`.
//!
//! No index knows of it: a response is found by the names of its tags and of all that lies above them.

/// How many segments a tag of a response may have.
pub(crate) const MAX_TAG_DEPTH: usize = 32;

/// Two tags are the same iff this is. A slash at the end says nothing.
pub(crate) fn normalize_tag(tag: &str) -> String {
    trim_trailing_slashes(tag).to_ascii_lowercase()
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
