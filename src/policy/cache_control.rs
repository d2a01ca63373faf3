//! `Cache-Control` (RFC 9111 §5.2) as typed fields. Parsing cannot fail; malformed input makes a message less
//! cacheable.
//!
//! Two rules cover input outside the grammar. A restricting directive holds whatever follows its name. A permitting
//! directive holds only if it is well formed; of several, the one that grants the least counts.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use super::field_syntax::is_token_byte;

/// The directives of `Cache-Control` (RFC 9111 §5.2, RFC 5861).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `max-age` (§5.2.1.1, §5.2.2.1).
    pub max_age: Option<Duration>,
    /// `s-maxage` (§5.2.2.10).
    pub s_maxage: Option<Duration>,
    /// `no-store` (§5.2.1.5, §5.2.2.5).
    pub no_store: bool,
    /// `no-cache="field"` counts as plain `no-cache`, which is stricter (§5.2.2.4).
    pub no_cache: bool,
    /// `private="field"` counts as plain `private`, which is stricter (§5.2.2.7).
    pub private: bool,
    /// `public` (§5.2.2.9).
    pub public: bool,
    /// `must-revalidate` (§5.2.2.2).
    pub must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) no_transform: bool,
    pub(crate) only_if_cached: bool,
    /// `stale-while-revalidate` (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
    pub(crate) max_stale: Option<Option<Duration>>,
    pub(crate) min_fresh: Option<Duration>,
}

impl CacheControl {
    /// Parses all lines of the field, of a request or a response.
    pub fn parse(headers: &HeaderMap) -> Self {
        Self::parse_values(headers.get_all(CACHE_CONTROL).iter().map(|value| value.as_bytes()))
    }

    /// Parses the lines of any field with the same syntax.
    pub fn parse_values<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut directives = Self::default();
        for value in values {
            for member in ListMembers::new(value) {
                directives.add_list_member(member);
            }
        }
        directives
    }

    /// Adds a directive that another grammar has parsed; `argument` is the text that would follow `=`.
    pub(super) fn add_member(&mut self, name: &str, argument: Option<&str>) {
        let argument = match argument {
            None => Argument::None,
            Some(text) if !text.is_empty() => Argument::Token(text.as_bytes()),
            Some(_) => Argument::Unreadable,
        };
        self.add_directive(&Directive { name: name.as_bytes(), argument });
    }

    fn add_list_member(&mut self, member: &[u8]) {
        match Directive::parse(member) {
            Some(directive) => self.add_directive(&directive),
            // The intended directive is unknown here, so every restricting word counts.
            None => {
                for word in member.split(|byte| !is_token_byte(*byte)) {
                    self.add_directive(&Directive { name: word, argument: Argument::Unreadable });
                }
            }
        }
    }

    fn add_directive(&mut self, directive: &Directive<'_>) {
        let Some(known) = DirectiveName::parse(directive.name) else { return };
        let seconds = || directive.argument.seconds();
        match known {
            DirectiveName::NoStore => self.no_store = true,
            DirectiveName::NoCache => self.no_cache = true,
            DirectiveName::Private => self.private = true,
            DirectiveName::MustRevalidate => self.must_revalidate = true,
            DirectiveName::ProxyRevalidate => self.proxy_revalidate = true,
            DirectiveName::MustUnderstand => self.must_understand = true,
            DirectiveName::NoTransform => self.no_transform = true,
            DirectiveName::Public => self.public |= directive.argument == Argument::None,
            DirectiveName::OnlyIfCached => self.only_if_cached |= directive.argument == Argument::None,
            DirectiveName::MaxAge => keep_lowest(&mut self.max_age, seconds()),
            DirectiveName::SMaxage => keep_lowest(&mut self.s_maxage, seconds()),
            DirectiveName::StaleWhileRevalidate => keep_lowest(&mut self.stale_while_revalidate, seconds()),
            DirectiveName::StaleIfError => keep_lowest(&mut self.stale_if_error, seconds()),
            DirectiveName::MaxStale => self.lower_max_stale(&directive.argument),
            DirectiveName::MinFresh => {
                let asked = directive.argument.seconds().unwrap_or(MAX_DELTA_SECONDS);
                self.min_fresh = Some(self.min_fresh.map_or(asked, |present| present.max(asked)));
            }
        }
    }

    /// §5.2.1.2: `max-stale` without a value accepts any staleness.
    fn lower_max_stale(&mut self, argument: &Argument<'_>) {
        let limit = match argument {
            Argument::None => None,
            other => Some(other.seconds().unwrap_or(Duration::ZERO)),
        };
        self.max_stale = Some(match (self.max_stale.flatten(), limit) {
            (Some(present), Some(limit)) => Some(present.min(limit)),
            (present, limit) => present.or(limit),
        });
    }
}

/// RFC 9111 §4.2.1: the lowest of conflicting values wins; an unreadable one is 0.
fn keep_lowest(present: &mut Option<Duration>, seconds: Option<Duration>) {
    let seconds = seconds.unwrap_or(Duration::ZERO);
    *present = Some(present.map_or(seconds, |present| present.min(seconds)));
}

#[derive(Clone, Copy)]
enum DirectiveName {
    MaxAge,
    SMaxage,
    NoStore,
    NoCache,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    NoTransform,
    OnlyIfCached,
    StaleWhileRevalidate,
    StaleIfError,
    MaxStale,
    MinFresh,
}

const DIRECTIVE_NAMES: [(&str, DirectiveName); 15] = [
    ("max-age", DirectiveName::MaxAge),
    ("s-maxage", DirectiveName::SMaxage),
    ("no-store", DirectiveName::NoStore),
    ("no-cache", DirectiveName::NoCache),
    ("private", DirectiveName::Private),
    ("public", DirectiveName::Public),
    ("must-revalidate", DirectiveName::MustRevalidate),
    ("proxy-revalidate", DirectiveName::ProxyRevalidate),
    ("must-understand", DirectiveName::MustUnderstand),
    ("no-transform", DirectiveName::NoTransform),
    ("only-if-cached", DirectiveName::OnlyIfCached),
    ("stale-while-revalidate", DirectiveName::StaleWhileRevalidate),
    ("stale-if-error", DirectiveName::StaleIfError),
    ("max-stale", DirectiveName::MaxStale),
    ("min-fresh", DirectiveName::MinFresh),
];

impl DirectiveName {
    /// §5.2: names are compared case-insensitively; unknown ones are ignored (§5.2.3).
    fn parse(name: &[u8]) -> Option<Self> {
        DIRECTIVE_NAMES
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(_, known)| *known)
    }
}

struct Directive<'a> {
    name: &'a [u8],
    argument: Argument<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument<'a> {
    None,
    Token(&'a [u8]),
    /// The text between the quotes, escapes included.
    Quoted(&'a [u8]),
    Unreadable,
}

impl<'a> Directive<'a> {
    /// Parses `token [ "=" ( token / quoted-string ) ]` (§5.2); `None` for anything else.
    fn parse(member: &'a [u8]) -> Option<Self> {
        let name_end = member.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(member.len());
        let (name, rest) = member.split_at(name_end);
        let argument = match rest {
            [] => Argument::None,
            [b'=', b'"', inner @ .., b'"'] if !has_unescaped_quote(inner) => Argument::Quoted(inner),
            [b'=', token @ ..] if !token.is_empty() && token.iter().copied().all(is_token_byte) => {
                Argument::Token(token)
            }
            _ => return None,
        };
        Some(Self { name, argument })
    }
}

impl Argument<'_> {
    /// Delta-seconds (§1.2.2), saturating; a quoted-string is accepted too (§5.2).
    fn seconds(&self) -> Option<Duration> {
        match self {
            Argument::Token(digits) | Argument::Quoted(digits) => parse_delta_seconds(digits),
            Argument::None | Argument::Unreadable => None,
        }
    }
}

/// §1.2.2: larger values count as 2^31.
const MAX_DELTA_SECONDS: Duration = Duration::from_secs(1 << 31);

/// §1.2.2: `1*DIGIT`.
pub(super) fn parse_delta_seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits
        .iter()
        .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(Duration::from_secs(seconds).min(MAX_DELTA_SECONDS))
}

/// Whether the inside of a quoted-string has an unescaped quote, or ends in an escape.
fn has_unescaped_quote(inner: &[u8]) -> bool {
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return true,
            b'\\' if bytes.next().is_none() => return true,
            _ => {}
        }
    }
    false
}

/// The members of a list (RFC 9110 §5.6.1), trimmed; empty ones are skipped. A comma in a quoted-string does not
/// end a member; an unclosed quote quotes nothing.
struct ListMembers<'a> {
    rest: &'a [u8],
    /// An unclosed quote was found, so no later quote closes either and the search is not repeated.
    unclosed: bool,
}

impl<'a> ListMembers<'a> {
    fn new(list: &'a [u8]) -> Self {
        Self { rest: list, unclosed: false }
    }

    fn find_member_end(&mut self) -> usize {
        let mut at = 0;
        while let Some(byte) = self.rest.get(at) {
            match byte {
                b',' => return at,
                b'"' if !self.unclosed => match find_closing_quote(self.rest, at) {
                    Some(closing) => at = closing,
                    None => self.unclosed = true,
                },
                _ => {}
            }
            at += 1;
        }
        self.rest.len()
    }
}

impl<'a> Iterator for ListMembers<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = self.find_member_end();
            let member = self.rest[..end].trim_ascii();
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

fn find_closing_quote(list: &[u8], opening: usize) -> Option<usize> {
    let mut at = opening + 1;
    loop {
        match list.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
#[path = "cache_control_tests.rs"]
mod tests;
