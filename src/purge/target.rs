//! What a purge can name, and the path as purges compare it.

use sha2::{Digest, Sha256};

use super::tag::{loose_tag, tag_and_above};

/// What a purge names. Paths are [`LoosePath`]s, hosts are lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// What carries the tag, or one below it (`a/b` lies below `a`). Compared without ASCII case: a tag too many is a
    /// miss too many, a tag too few is a stale answer.
    Tag(String),
    /// Every query, variant and credential of one path, on one host or on any.
    Path {
        host: Option<String>,
        path: LoosePath,
    },
    /// Exactly this query of one path.
    Url {
        host: Option<String>,
        path: LoosePath,
        query: String,
    },
    /// The path and all that lies below it, by segment.
    Prefix {
        host: Option<String>,
        path: LoosePath,
    },
    Everything,
}

/// The name of a target in the index: 64 bits of SHA-256, the same in every replica. Should two targets ever have one
/// name, a purge of one is a purge of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub [u8; TargetId::LENGTH]);

impl Target {
    pub fn tag(tag: impl Into<String>) -> Self {
        Target::Tag(tag.into())
    }

    pub fn id(&self) -> TargetId {
        match self {
            Target::Tag(tag) => TargetId::of_tag(tag),
            Target::Path { host, path } => TargetId::of(b'p', &[host_part(host), path.0.as_bytes()]),
            Target::Url { host, path, query } => {
                TargetId::of(b'u', &[host_part(host), path.0.as_bytes(), query.as_bytes()])
            }
            Target::Prefix { host, path } => {
                TargetId::of(b'b', &[host_part(host), path.first_segments(MAX_DEPTH).as_bytes()])
            }
            Target::Everything => TargetId::of(b'*', &[]),
        }
    }

    /// Every target by which a purge can reach the response to `host`, `path`, `query` that carries `tags`.
    pub fn all_of<'a>(
        host: &str,
        path: &LoosePath,
        query: &str,
        tags: impl IntoIterator<Item = &'a str>,
    ) -> Vec<TargetId> {
        let mut ids = vec![Target::Everything.id()];
        for host in ["", host] {
            ids.push(TargetId::of(b'p', &[host.as_bytes(), path.0.as_bytes()]));
            ids.push(TargetId::of(b'u', &[host.as_bytes(), path.0.as_bytes(), query.as_bytes()]));
            for prefix in path.prefixes() {
                ids.push(TargetId::of(b'b', &[host.as_bytes(), prefix.as_bytes()]));
            }
        }
        ids.extend(tags.into_iter().flat_map(tag_and_above).map(TargetId::of_tag));
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
            Target::Prefix { host, path } => write!(f, "prefix {}{}", at(host), path.as_str()),
            Target::Everything => f.write_str("everything"),
        }
    }
}

/// The empty one stands for any host.
fn host_part(host: &Option<String>) -> &[u8] {
    host.as_deref().unwrap_or("").as_bytes()
}

impl TargetId {
    pub const LENGTH: usize = 8;

    fn of_tag(tag: &str) -> Self {
        Self::of(b't', &[loose_tag(tag).as_bytes()])
    }

    /// Parts are length-prefixed, so that no two lists of parts are the same bytes.
    fn of(kind: u8, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update([kind]);
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0; Self::LENGTH];
        id.copy_from_slice(&digest[..Self::LENGTH]);
        Self(id)
    }
}

/// How deep a prefix purge can tell paths apart; a deeper prefix purges what its first segments name.
const MAX_DEPTH: usize = 32;

/// How often a path is percent-decoded: a proxy between larder and the application may have decoded it once more.
const DECODINGS: usize = 3;

/// A path as purges compare it: percent-decoded, without dot segments, empty segments, path parameters, trailing
/// slash and ASCII case. Many spellings have one loose path, so a purge reaches more rather than less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoosePath(String);

impl LoosePath {
    pub fn new(path: &str) -> Self {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..DECODINGS {
            match percent_decoded(&bytes) {
                Some(decoded) => bytes = decoded,
                None => break,
            }
        }
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
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
        Self(format!("/{}", segments.join("/")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path itself and every path above it, up to `/`.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let text = self.0.as_str();
        let root = (text != "/").then_some("/");
        let below = text.char_indices().skip(1).filter(|(_, c)| *c == '/').map(move |(at, _)| &text[..at]);
        root.into_iter().chain(below).chain(Some(text)).take(MAX_DEPTH + 1)
    }

    fn first_segments(&self, count: usize) -> &str {
        self.prefixes().nth(count).unwrap_or(&self.0)
    }
}

/// `None` if there was nothing to decode.
fn percent_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 3).and_then(hex_pair) {
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

fn hex_pair(escape: &[u8]) -> Option<u8> {
    let [b'%', high, low] = escape else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_one_loose_path() {
        let expected = LoosePath::new("/api/courses/7");
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
            assert_eq!(LoosePath::new(spelling), expected, "{spelling}");
        }
    }

    #[test]
    fn different_paths_stay_different() {
        for (one, other) in [("/a", "/b"), ("/a/b", "/ab"), ("/a/b", "/a"), ("/", "/a"), ("/a/%2", "/a/2")] {
            assert_ne!(LoosePath::new(one), LoosePath::new(other));
        }
    }

    #[test]
    fn a_prefix_reaches_itself_and_what_is_below_by_segment() {
        let reaches = |prefix: &str, path: &str| {
            let prefix = Target::Prefix { host: None, path: LoosePath::new(prefix) };
            Target::all_of("h", &LoosePath::new(path), "", []).contains(&prefix.id())
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
        let prefix = Target::Prefix { host: None, path: LoosePath::new(&deep) };
        let above = "/a".repeat(33);
        for path in [&deep, &above] {
            assert!(Target::all_of("h", &LoosePath::new(path), "", []).contains(&prefix.id()), "{path}");
        }
    }

    #[test]
    fn a_target_with_a_host_reaches_that_host_only() {
        let target =
            |host: Option<&str>| Target::Path { host: host.map(Into::into), path: LoosePath::new("/p") };
        let of = |host| Target::all_of(host, &LoosePath::new("/p"), "q=1", ["t"]);
        assert!(of("a.example").contains(&target(None).id()));
        assert!(of("a.example").contains(&target(Some("a.example")).id()));
        assert!(!of("b.example").contains(&target(Some("a.example")).id()));
    }

    #[test]
    fn tags_are_compared_without_case_and_never_mixed_with_paths() {
        let ids = Target::all_of("h", &LoosePath::new("/p"), "", ["Course:7"]);
        assert!(ids.contains(&Target::tag("course:7").id()));
        assert!(!ids.contains(&Target::tag("/p").id()));
        assert!(!ids.contains(&Target::tag("course").id()));
    }
}
