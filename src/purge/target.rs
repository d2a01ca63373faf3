//! Targets of purges, and paths as purges compare them.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::spelling::{fold_case, split_uuid};
use super::tag::{fold_values, tag_and_ancestors};

/// A target of a purge. Paths are [`NormalizedPath`]s, hosts are lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Responses that carry the tag, or one below it (`a/b` is below `a`). Compared without case: a tag too many
    /// is a needless miss, a tag too few is a stale answer.
    Tag(String),
    /// Every query, variant and credential of one path, on one host or on any.
    Path {
        /// `None`: any host.
        host: Option<String>,
        /// The path.
        path: NormalizedPath,
    },
    /// Exactly this query of one path.
    Url {
        /// `None`: any host.
        host: Option<String>,
        /// The path.
        path: NormalizedPath,
        /// The query, without `?`.
        query: String,
    },
    /// The responses of one path that answer more queries than their own (`No-Vary-Search`).
    Equivalents {
        /// `None`: any host.
        host: Option<String>,
        /// The path.
        path: NormalizedPath,
    },
    /// The path and all that lies below it, by segment.
    Prefix {
        /// `None`: any host.
        host: Option<String>,
        /// The path.
        path: NormalizedPath,
    },
    /// All responses.
    Everything,
}

/// Ids of rules begin with these bytes, those of targets do not.
const RULES_PREFIX: [u8; 3] = [0xff; 3];

/// The name of a target in the index: 64 bits of SHA-256, the same in every replica. Should two targets ever have one
/// name, a purge of one is a purge of both.
///
/// Rules (paths, tags and purges of a configuration) have ids, too. A response carries that of the rules it was stored
/// under, and a purge that names rules reaches all responses that do *not* carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub [u8; TargetId::LENGTH]);

impl Target {
    /// The target of a tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        Target::Tag(tag.into())
    }

    /// The id, which the index keeps in place of the target.
    pub fn id(&self) -> TargetId {
        match self {
            Target::Tag(tag) => TargetId::hash_tag(tag),
            Target::Path { host, path } => TargetId::hash_path(host.as_deref().unwrap_or_default(), path),
            Target::Url { host, path, query } => {
                let query = normalize_escapes(query);
                TargetId::hash(b'u', &[host_bytes(host), path.0.as_bytes(), query.as_bytes()])
            }
            Target::Equivalents { host, path } => {
                TargetId::hash_equivalents(host.as_deref().unwrap_or_default(), path)
            }
            Target::Prefix { host, path } => {
                TargetId::hash(b'b', &[host_bytes(host), path.first_segments(MAX_PREFIX_DEPTH).as_bytes()])
            }
            Target::Everything => TargetId::hash(b'*', &[]),
        }
    }

    /// Every target by which a purge can reach the response to `host`, `path`, `query` that carries `tags`.
    pub fn ids_for_response<'a>(
        host: &str,
        path: &NormalizedPath,
        query: &str,
        tags: impl IntoIterator<Item = &'a str>,
    ) -> Vec<TargetId> {
        let query = normalize_escapes(query);
        let mut ids = vec![Target::Everything.id()];
        for host in ["", host] {
            ids.extend(TargetId::list_path_and_above(host, path));
            ids.push(TargetId::hash(b'u', &[host.as_bytes(), path.0.as_bytes(), query.as_bytes()]));
        }
        ids.extend(tags.into_iter().flat_map(tag_and_ancestors).map(TargetId::hash_tag));
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// For people: `tag courses`, `path /api/courses`, `url example.com/api/courses?page=1`.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |host: &Option<String>| host.clone().unwrap_or_default();
        match self {
            Target::Tag(tag) => write!(f, "tag {tag}"),
            Target::Path { host, path } => write!(f, "path {}{}", at(host), path.as_str()),
            Target::Url { host, path, query } => write!(f, "url {}{}?{query}", at(host), path.as_str()),
            Target::Equivalents { host, path } => {
                write!(f, "equivalent queries of {}{}", at(host), path.as_str())
            }
            Target::Prefix { host, path } => write!(f, "prefix {}{}", at(host), path.as_str()),
            Target::Everything => f.write_str("everything"),
        }
    }
}

/// The empty one stands for any host.
fn host_bytes(host: &Option<String>) -> &[u8] {
    host.as_deref().unwrap_or("").as_bytes()
}

impl TargetId {
    pub(crate) const LENGTH: usize = 8;

    /// The targets of a response to `host`, `path` that answers more queries than its own.
    pub(crate) fn list_equivalents(host: &str, path: &NormalizedPath) -> [Self; 2] {
        ["", host].map(|host| Self::hash_equivalents(host, path))
    }

    /// The target of a path with all queries; the empty host stands for any.
    pub(crate) fn hash_path(host: &str, path: &NormalizedPath) -> Self {
        Self::hash(b'p', &[host.as_bytes(), path.0.as_bytes()])
    }

    /// The targets of a path with all queries, and of all that lies below it or a path above; the empty host stands for any.
    pub(crate) fn list_path_and_above(host: &str, path: &NormalizedPath) -> impl Iterator<Item = Self> {
        let above = path.prefixes().map(move |above| Self::hash(b'b', &[host.as_bytes(), above.as_bytes()]));
        std::iter::once(Self::hash_path(host, path)).chain(above)
    }

    fn hash_equivalents(host: &str, path: &NormalizedPath) -> Self {
        Self::hash(b'e', &[host.as_bytes(), path.0.as_bytes()])
    }

    /// The id of rules.
    pub(crate) fn hash_rules(rules: &str) -> Self {
        let mut id = Self::hash(b'r', &[rules.as_bytes()]);
        id.0[..RULES_PREFIX.len()].copy_from_slice(&RULES_PREFIX);
        id
    }

    /// Whether this is the id of rules, and not of a target.
    pub fn is_rules(&self) -> bool {
        self.0.starts_with(&RULES_PREFIX)
    }

    fn hash_tag(tag: &str) -> Self {
        Self::hash(b't', &[fold_values(tag).as_bytes()])
    }

    /// Parts are length-prefixed, so that no two lists of parts are the same bytes.
    fn hash(kind: u8, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update([kind]);
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0; Self::LENGTH];
        id.copy_from_slice(&digest[..Self::LENGTH]);
        if id.starts_with(&RULES_PREFIX) {
            id[0] ^= 1;
        }
        Self(id)
    }
}

/// A query with the digits of its percent-encoded bytes in upper case, and unreserved characters decoded (RFC 3986 §6.2.2).
pub(crate) fn normalize_escapes(query: &str) -> Cow<'_, str> {
    let bytes = query.as_bytes();
    let escape = |at: usize| bytes.get(at..).and_then(parse_percent_escape);
    let is_lower = |at: usize| bytes[at + 1..at + 3].iter().any(u8::is_ascii_lowercase);
    let changes = |at: usize| escape(at).is_some_and(|byte| is_unreserved(byte) || is_lower(at));
    if !memchr::memchr_iter(b'%', bytes).any(changes) {
        return Cow::Borrowed(query);
    }
    let (mut normal, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&first) = bytes.get(at) {
        let found = escape(at);
        match found {
            Some(byte) if is_unreserved(byte) => normal.push(byte),
            Some(_) => normal.extend(bytes[at..at + 3].to_ascii_uppercase()),
            None => normal.push(first),
        }
        at += if found.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&normal).into_owned())
}

/// How deep a prefix purge can tell paths apart; a deeper prefix purges what its first segments name.
const MAX_PREFIX_DEPTH: usize = 32;

/// How often a path is percent-decoded: a proxy between larder and the application may have decoded it once more.
const MAX_PERCENT_DECODINGS: usize = 3;

/// A path as purges compare it: percent-decoded, without dot segments, empty segments, path parameters, trailing
/// slash and case. Many spellings have one loose path, so a purge reaches more rather than less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NormalizedPath(String);

impl NormalizedPath {
    /// Normalizes a path, with or without a query.
    pub fn new(path: &str) -> Self {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..MAX_PERCENT_DECODINGS {
            match percent_decode(&bytes) {
                Some(decoded) => bytes = decoded,
                None => break,
            }
        }
        let text = fold_case(&String::from_utf8_lossy(&bytes));
        let mut segments: Vec<&str> = Vec::new();
        for segment in text.split(['/', '\\']) {
            match segment.split(';').next().unwrap_or_default() {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                name => segments.push(name),
            }
        }
        let segments: Vec<_> = segments.into_iter().map(spell_uuid).collect();
        Self(format!("/{}", segments.join("/")))
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path itself and every path above it, up to `/`.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let text = self.0.as_str();
        let root = (text != "/").then_some("/");
        let below = text.char_indices().skip(1).filter(|(_, c)| *c == '/').map(move |(at, _)| &text[..at]);
        root.into_iter().chain(below).chain(Some(text)).take(MAX_PREFIX_DEPTH + 1)
    }

    fn first_segments(&self, count: usize) -> &str {
        self.prefixes().nth(count).unwrap_or(&self.0)
    }
}

/// The segment; if it is a UUID, in the usual spelling.
fn spell_uuid(segment: &str) -> Cow<'_, str> {
    match split_uuid(segment) {
        Some((uuid, "")) => Cow::Owned(uuid),
        _ => Cow::Borrowed(segment),
    }
}

/// `None` if there was nothing to decode.
fn percent_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..).and_then(parse_percent_escape) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    (decoded.len() < bytes.len()).then_some(decoded)
}

/// RFC 3986 §2.3.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The byte that an escape at the start of `bytes` stands for.
pub(crate) fn parse_percent_escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_one_loose_path() {
        let expected = NormalizedPath::new("/api/courses/7");
        for spelling in [
            "/api/courses/7/",
            "/API/Courses/7",
            "/api//courses/7",
            "/api/./courses/7",
            "/api/x/../courses/7",
            "/api/x/..%2fcourses/7",
            "/%61pi/courses/%37",
            "/api/courses/%2537",
            "/api/courses/7;v=1",
            "/api\\courses\\7",
            "/api/courses/7/.",
            "/../api/courses/7",
        ] {
            assert_eq!(NormalizedPath::new(spelling), expected, "{spelling}");
        }
    }

    #[test]
    fn equivalent_queries_are_one_url() {
        for (query, expected) in [
            ("q=%7Eada&p=a%2Db%5F%2e", "q=~ada&p=a-b_."),
            ("q=%2f%41%7a%30", "q=%2FAz0"),
            ("q=%257e%2B+%20", "q=%257e%2B+%20"),
            ("q=%7", "q=%7"),
            ("q=%e2%82%ac", "q=%E2%82%AC"),
        ] {
            assert_eq!(normalize_escapes(query), expected);
            let url = |query: &str| Target::Url {
                host: None,
                path: NormalizedPath::new("/s"),
                query: query.to_owned(),
            };
            assert_eq!(url(query).id(), url(expected).id());
            let stored = Target::ids_for_response("h", &NormalizedPath::new("/s"), query, []);
            assert!(stored.contains(&url(expected).id()), "{query}");
        }
    }

    #[test]
    fn spellings_of_one_uuid_are_one_loose_path() {
        let expected = NormalizedPath::new("/courses/5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b/x");
        for spelling in [
            "5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b",
            "5F0C3E9A-1C2D-4E5F-8A9B-0C1D2E3F4A5B",
            "%7B5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b%7D",
            "{5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b}",
            "urn:uuid:5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
            "urn:uuid:{5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b}",
        ] {
            assert_eq!(NormalizedPath::new(&format!("/courses/{spelling}/x")), expected, "{spelling}");
        }
        for other in [
            "/{5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
            "/{5f0c3e9a01c2d-4e5f-8a9b-0c1d2e3f4a5b}",
            "/5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5g",
            "/urn:uuid:5f0c",
            "/{}",
        ] {
            assert_eq!(NormalizedPath::new(other).as_str(), other);
        }
    }

    #[test]
    fn letters_beyond_ascii_have_no_case_either() {
        for (one, other) in [
            ("/c/%C3%89vry", "/c/%C3%A9vry"),
            ("/c/%D0%9A%D0%98%D0%95%D0%92", "/c/%D0%BA%D0%B8%D0%B5%D0%B2"),
            ("/c/É", "/C/é"),
        ] {
            assert_eq!(NormalizedPath::new(one), NormalizedPath::new(other), "{one} {other}");
        }
        assert_ne!(NormalizedPath::new("/c/É"), NormalizedPath::new("/c/e"));
    }

    #[test]
    fn different_paths_stay_different() {
        for (one, other) in [("/a", "/b"), ("/a/b", "/ab"), ("/a/b", "/a"), ("/", "/a"), ("/a/%2", "/a/2")] {
            assert_ne!(NormalizedPath::new(one), NormalizedPath::new(other));
        }
    }

    #[test]
    fn a_prefix_reaches_itself_and_what_is_below_by_segment() {
        let reaches = |prefix: &str, path: &str| {
            let prefix = Target::Prefix { host: None, path: NormalizedPath::new(prefix) };
            Target::ids_for_response("h", &NormalizedPath::new(path), "", []).contains(&prefix.id())
        };
        assert!(reaches("/api", "/api"));
        assert!(reaches("/api", "/api/courses/7"));
        assert!(reaches("/", "/api"));
        assert!(reaches("/", "/"));
        assert!(!reaches("/api", "/apis"));
        assert!(!reaches("/api/courses", "/api"));
    }

    #[test]
    fn a_prefix_too_deep_to_tell_apart_purges_more() {
        let deep = "/a".repeat(40);
        let prefix = Target::Prefix { host: None, path: NormalizedPath::new(&deep) };
        let above = "/a".repeat(33);
        for path in [&deep, &above] {
            assert!(
                Target::ids_for_response("h", &NormalizedPath::new(path), "", []).contains(&prefix.id()),
                "{path}"
            );
        }
    }

    #[test]
    fn a_target_with_a_host_reaches_that_host_only() {
        let target =
            |host: Option<&str>| Target::Path { host: host.map(Into::into), path: NormalizedPath::new("/p") };
        let of = |host| Target::ids_for_response(host, &NormalizedPath::new("/p"), "q=1", ["t"]);
        assert!(of("a.example").contains(&target(None).id()));
        assert!(of("a.example").contains(&target(Some("a.example")).id()));
        assert!(!of("b.example").contains(&target(Some("a.example")).id()));
    }

    #[test]
    fn rules_are_told_from_targets() {
        assert!(TargetId::hash_rules("one").is_rules());
        assert_ne!(TargetId::hash_rules("one"), TargetId::hash_rules("two"));
        assert!((0..1000).all(|number: u32| !Target::tag(number.to_string()).id().is_rules()));
    }

    #[test]
    fn tags_are_compared_without_case_and_never_mixed_with_paths() {
        let ids = Target::ids_for_response("h", &NormalizedPath::new("/p"), "", ["Course:7"]);
        assert!(ids.contains(&Target::tag("course:7").id()));
        assert!(!ids.contains(&Target::tag("/p").id()));
        assert!(!ids.contains(&Target::tag("course").id()));
    }
}
