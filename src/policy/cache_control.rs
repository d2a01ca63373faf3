//! `Cache-Control` (RFC 9111 §5.2) as typed fields. Parsing can't fail; what is wrong makes less cacheable.
//!
//! Two rules for what the grammar does not allow. A directive that restricts holds whatever follows its name. One that
//! permits holds only if it is spelled right, once, or each time with the least it grants.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub no_store: bool,
    /// With or without an argument: `no-cache="field"` counts as `no-cache`, which is what it says and more (§5.2.2.4).
    pub no_cache: bool,
    /// With or without an argument (§5.2.2.7), as `no_cache`.
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub no_transform: bool,
    pub only_if_cached: bool,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub max_stale: Option<Option<Duration>>,
    pub min_fresh: Option<Duration>,
}

impl CacheControl {
    /// Of a request or a response; all lines of the field together.
    pub fn parse(headers: &HeaderMap) -> Self {
        Self::of_values(headers.get_all(CACHE_CONTROL).iter().map(|value| value.as_bytes()))
    }

    /// Of any field with the same syntax.
    pub fn of_values<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut directives = Self::default();
        for value in values {
            for member in Members::of(value) {
                directives.add(member);
            }
        }
        directives
    }

    /// A directive that was read by another grammar; `argument` is what would stand after `=`.
    pub(super) fn add_member(&mut self, name: &str, argument: Option<&str>) {
        let argument = match argument {
            None => Argument::None,
            Some(text) if !text.is_empty() => Argument::Token(text.as_bytes()),
            Some(_) => Argument::Unreadable,
        };
        self.add_directive(&Directive { name: name.as_bytes(), argument });
    }

    fn add(&mut self, member: &[u8]) {
        match Directive::read(member) {
            Some(directive) => self.add_directive(&directive),
            // Which of its words was meant as a directive can't be told, so each counts that takes something away.
            None => {
                for word in member.split(|byte| !is_token_byte(*byte)) {
                    self.add_directive(&Directive { name: word, argument: Argument::Unreadable });
                }
            }
        }
    }

    fn add_directive(&mut self, directive: &Directive<'_>) {
        let Some(known) = Known::of(directive.name) else { return };
        let seconds = || directive.argument.seconds();
        match known {
            Known::NoStore => self.no_store = true,
            Known::NoCache => self.no_cache = true,
            Known::Private => self.private = true,
            Known::MustRevalidate => self.must_revalidate = true,
            Known::ProxyRevalidate => self.proxy_revalidate = true,
            Known::MustUnderstand => self.must_understand = true,
            Known::NoTransform => self.no_transform = true,
            Known::Public => self.public |= directive.argument == Argument::None,
            Known::OnlyIfCached => self.only_if_cached |= directive.argument == Argument::None,
            Known::MaxAge => lower(&mut self.max_age, seconds()),
            Known::SMaxage => lower(&mut self.s_maxage, seconds()),
            Known::StaleWhileRevalidate => lower(&mut self.stale_while_revalidate, seconds()),
            Known::StaleIfError => lower(&mut self.stale_if_error, seconds()),
            Known::MaxStale => self.lower_max_stale(&directive.argument),
            Known::MinFresh => {
                let asked = directive.argument.seconds().unwrap_or(MOST);
                self.min_fresh = Some(self.min_fresh.map_or(asked, |present| present.max(asked)));
            }
        }
    }

    /// §5.2.1.2: without a value it accepts any staleness.
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

/// RFC 9111 §4.2.1: of conflicting values, the one that makes the response stale first; one that can't be read is 0.
fn lower(present: &mut Option<Duration>, seconds: Option<Duration>) {
    let seconds = seconds.unwrap_or(Duration::ZERO);
    *present = Some(present.map_or(seconds, |present| present.min(seconds)));
}

#[derive(Clone, Copy)]
enum Known {
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

const KNOWN: [(&str, Known); 15] = [
    ("max-age", Known::MaxAge),
    ("s-maxage", Known::SMaxage),
    ("no-store", Known::NoStore),
    ("no-cache", Known::NoCache),
    ("private", Known::Private),
    ("public", Known::Public),
    ("must-revalidate", Known::MustRevalidate),
    ("proxy-revalidate", Known::ProxyRevalidate),
    ("must-understand", Known::MustUnderstand),
    ("no-transform", Known::NoTransform),
    ("only-if-cached", Known::OnlyIfCached),
    ("stale-while-revalidate", Known::StaleWhileRevalidate),
    ("stale-if-error", Known::StaleIfError),
    ("max-stale", Known::MaxStale),
    ("min-fresh", Known::MinFresh),
];

impl Known {
    /// §5.2: names are compared without case; unknown ones are ignored (§5.2.3).
    fn of(name: &[u8]) -> Option<Self> {
        KNOWN.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(_, known)| *known)
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
    /// What stands between the quotes, escapes included.
    Quoted(&'a [u8]),
    Unreadable,
}

impl<'a> Directive<'a> {
    /// §5.2: `token [ "=" ( token / quoted-string ) ]`; `None` for anything else.
    fn read(member: &'a [u8]) -> Option<Self> {
        let name_end = member.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(member.len());
        let (name, rest) = member.split_at(name_end);
        let argument = match rest {
            [] => Argument::None,
            [b'=', b'"', inner @ .., b'"'] if !has_bare_quote(inner) => Argument::Quoted(inner),
            [b'=', token @ ..] if !token.is_empty() && token.iter().copied().all(is_token_byte) => {
                Argument::Token(token)
            }
            _ => return None,
        };
        Some(Self { name, argument })
    }
}

impl Argument<'_> {
    /// Delta-seconds (§1.2.2): saturating, and also as a quoted-string (§5.2: recipients ought to accept both).
    fn seconds(&self) -> Option<Duration> {
        match self {
            Argument::Token(digits) | Argument::Quoted(digits) => delta_seconds(digits),
            Argument::None | Argument::Unreadable => None,
        }
    }
}

/// §1.2.2: a value greater than can be represented counts as 2^31.
const MOST: Duration = Duration::from_secs(1 << 31);

/// §1.2.2: `1*DIGIT`.
pub(super) fn delta_seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits
        .iter()
        .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(Duration::from_secs(seconds).min(MOST))
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a quote stands in a quoted-string's inside without its escape, or an escape before the closing quote.
fn has_bare_quote(inner: &[u8]) -> bool {
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

/// The members of a list (RFC 9110 §5.6.1), without the white space around them; empty ones are left out. A comma in a
/// quoted-string does not end a member; a quote that is never closed quotes nothing.
struct Members<'a> {
    rest: &'a [u8],
    /// A quote was found that is never closed. Neither is any after it, so that none has to be looked for again.
    unclosed: bool,
}

impl<'a> Members<'a> {
    fn of(list: &'a [u8]) -> Self {
        Self { rest: list, unclosed: false }
    }

    fn end_of_member(&mut self) -> usize {
        let mut at = 0;
        while let Some(byte) = self.rest.get(at) {
            match byte {
                b',' => return at,
                b'"' if !self.unclosed => match closing_quote(self.rest, at) {
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

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = self.end_of_member();
            let member = self.rest[..end].trim_ascii();
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

fn closing_quote(list: &[u8], opening: usize) -> Option<usize> {
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
