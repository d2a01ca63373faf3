//! Content codings as selecting fields (RFC 9110 §12.5.3, RFC 9111 §4.1).
//!
//! Clients spell `Accept-Encoding` in dozens of ways, and upstreams use one or two codings. A variant is therefore stored
//! under the coding it has, and a request selects one of the codings that the upstream has used for the resource.

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue};

/// The codings that responses are selected by, the preferred first.
const CODINGS: [(&[u8], Codings); 4] =
    [(b"br", Codings(1)), (b"zstd", Codings(2)), (b"gzip", Codings(4)), (b"deflate", Codings(8))];

/// The content codings that an upstream gives its responses, of the four that are registered for general use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codings(u8);

/// Stands for several codings at once, which no request selects.
const SEVERAL_CODINGS: Codings = Codings(16);

/// Larder gives a coding to responses that have none of the upstream.
const GIVEN_BY_LARDER: u8 = 32;

/// A request that names other codings got one that it alone may select.
const UNUSUAL_CODING: Codings = Codings(64);

/// The part of a variant's key that stands for `Accept-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Negotiated {
    /// The response has this coding, and the request accepts it.
    Coded(Codings),
    /// The request accepts a coding, and the response has none of those that it accepts.
    Offered,
    /// The request accepts no coding, or prefers none.
    Plain,
    /// The field as it is: it has a meaning that the other variants do not cover.
    Verbatim,
}

/// The weights, in thousandths, that a request gives to each of [`CODINGS`] and to no coding.
#[derive(Clone, Copy)]
struct Accepted {
    weights: [u16; CODINGS.len()],
    identity: u16,
    /// The request has a `*`, so that its refused codings are forwarded ([`remove_refused_codings`]), or it names a coding
    /// that is none of [`CODINGS`], and that an upstream may take for one: `pack200-gzip`.
    names_others: bool,
}

impl Codings {
    pub(crate) const BROTLI: Codings = Codings(1);
    pub(crate) const ZSTD: Codings = Codings(2);
    pub(crate) const GZIP: Codings = Codings(4);

    /// The set as one byte, for encoding.
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    pub(crate) fn from_byte(byte: u8) -> Self {
        Self(byte & 0x7f)
    }

    /// Whether larder gives a coding to what the upstream sends without one.
    pub(crate) fn are_given_by_larder(self) -> bool {
        self.0 & GIVEN_BY_LARDER != 0
    }

    fn contains(self, other: Codings) -> bool {
        self.0 & other.0 != 0
    }

    /// The codings in use after `response`, which is `received`, came to a request that selected `expected`. A coding that
    /// should have been used and was not is not expected any more. One request with an unusual field changes nothing for
    /// the others.
    #[must_use]
    pub(crate) fn learn(self, expected: Negotiated, received: Negotiated, response: &HeaderMap) -> Self {
        let of_response = match received {
            Negotiated::Coded(coding) => coding,
            _ => Codings::default(),
        };
        match (expected, received) {
            // The response is what is known of it, or the request alone is unusual.
            (Negotiated::Verbatim, Negotiated::Verbatim) => self,
            (_, Negotiated::Verbatim) if response_coding(response) == ReceivedCoding::Several => {
                SEVERAL_CODINGS
            }
            (_, Negotiated::Verbatim) => Codings(self.0 | UNUSUAL_CODING.0),
            (Negotiated::Verbatim, _) if !self.contains(SEVERAL_CODINGS) => {
                Codings(self.0 & !UNUSUAL_CODING.0 | of_response.0)
            }
            // Larder would have given it another one, had the upstream given none.
            (Negotiated::Coded(coding), Negotiated::Coded(_)) if !self.contains(coding) => {
                Codings(self.0 | of_response.0)
            }
            (Negotiated::Coded(_) | Negotiated::Verbatim, Negotiated::Coded(_)) if expected != received => {
                Codings(self.0 & GIVEN_BY_LARDER | of_response.0)
            }
            (Negotiated::Coded(_) | Negotiated::Verbatim, _) if expected != received => of_response,
            _ => Codings(self.0 | of_response.0),
        }
    }

    /// The codings in use after larder gave a coding to the response to a request that selected `expected`: the upstream
    /// gave it none.
    #[must_use]
    pub(crate) fn learn_from_larder(self, expected: Negotiated) -> Self {
        let not_given = match expected {
            Negotiated::Coded(coding) => coding.0,
            _ => SEVERAL_CODINGS.0,
        };
        Self(self.0 & !not_given | GIVEN_BY_LARDER)
    }
}

impl Negotiated {
    /// The variant that a request selects, where the upstream is known to use `codings`.
    pub(crate) fn expected(request: &HeaderMap, codings: Codings) -> Self {
        if codings.contains(SEVERAL_CODINGS) {
            return Negotiated::Verbatim;
        }
        let Some(accepted) = Accepted::parse(request) else { return Negotiated::Verbatim };
        if codings.contains(UNUSUAL_CODING) && accepted.names_others {
            return Negotiated::Verbatim;
        }
        let best = accepted.iter().filter(|(coding, _)| codings.contains(*coding)).rev();
        match best.max_by_key(|(_, weight)| *weight) {
            Some((coding, weight)) if weight > 0 && weight >= accepted.identity => Negotiated::Coded(coding),
            _ => accepted.without_coding(),
        }
    }

    /// The variant that a response to the request is. A coding that the request refuses is what the upstream sends to such
    /// requests in any case, unless the forwarded field may have named it.
    pub(crate) fn received(request: &HeaderMap, response: &HeaderMap) -> Self {
        let Some(accepted) = Accepted::parse(request) else { return Negotiated::Verbatim };
        let coding = match response_coding(response) {
            ReceivedCoding::Known(coding) => coding,
            // The upstream gives it to all.
            ReceivedCoding::Other if !accepted.names_others => return accepted.without_coding(),
            ReceivedCoding::Other | ReceivedCoding::Several => return Negotiated::Verbatim,
        };
        match accepted.iter().find(|(known, _)| *known == coding) {
            None | Some((_, 0)) if coding != Codings::default() && accepted.names_others => {
                Negotiated::Verbatim
            }
            None | Some((_, 0)) => accepted.without_coding(),
            Some(_) => Negotiated::Coded(coding),
        }
    }

    /// The bytes that stand for the field in a key; `None`: the field itself.
    pub(crate) fn key_part(self) -> Option<&'static [u8]> {
        match self {
            Negotiated::Coded(coding) => {
                CODINGS.iter().find(|(_, known)| *known == coding).map(|(name, _)| *name)
            }
            Negotiated::Offered => Some(b"*"),
            Negotiated::Plain => Some(b"identity"),
            Negotiated::Verbatim => None,
        }
    }
}

impl Accepted {
    /// `None` if the field is malformed, weights a coding in two ways, or refuses content without a coding.
    fn parse(request: &HeaderMap) -> Option<Self> {
        let (mut weights, mut identity, mut rest) = ([None; CODINGS.len()], None, None);
        let mut names_others = false;
        let lines = request.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes);
        let members = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        for member in members.filter(|member| !member.is_empty()) {
            let (name, weight) = parse_member(member)?;
            let name = without_x(name);
            let present = match CODINGS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some(index) => &mut weights[index],
                None if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                None if name == b"*" => &mut rest,
                None => {
                    names_others = true;
                    continue;
                }
            };
            if present.replace(weight).is_some_and(|other| other != weight) {
                return None;
            }
        }
        let weights = weights.map(|weight| weight.or(rest).unwrap_or(0));
        // Unless it is listed, no coding is acceptable, and the least preferred.
        (!is_identity_refused(&weights, identity, rest)).then(|| Self {
            weights,
            identity: identity.unwrap_or(0),
            names_others: names_others || rest.is_some(),
        })
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (Codings, u16)> {
        CODINGS.iter().map(|(_, coding)| *coding).zip(self.weights)
    }

    /// Whether content without a coding is all that it accepts, or what it likes best.
    fn without_coding(self) -> Negotiated {
        let best = self.weights.into_iter().max().unwrap_or(0);
        if best > 0 && best >= self.identity { Negotiated::Offered } else { Negotiated::Plain }
    }
}

/// The coding that the request gives the highest weight, and no lower one than to no coding: of several the first.
pub(crate) fn select_preferred(
    request: &HeaderMap,
    codings: impl DoubleEndedIterator<Item = Codings>,
) -> Option<Codings> {
    let accepted = Accepted::parse(request)?;
    let weigh =
        |coding: Codings| accepted.iter().find(|(known, _)| *known == coding).map_or(0, |(_, weight)| weight);
    // `max_by_key` returns the last of equals.
    let weighed = codings.rev().map(|coding| (coding, weigh(coding)));
    let usable = weighed.filter(|(_, weight)| *weight > 0 && *weight >= accepted.identity);
    usable.max_by_key(|(_, weight)| *weight).map(|(coding, _)| coding)
}

/// Parses `gzip;q=0.5` into the name and its weight in thousandths.
pub(super) fn parse_member(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty() && !name.contains(&b' '))?;
    let weight = match (parts.next(), parts.next()) {
        (None, _) => 1000,
        (Some(weight), None) => parse_weight(weight)?,
        (Some(_), Some(_)) => return None,
    };
    Some((name, weight))
}

/// A `q` parameter (RFC 9110 §12.4.2), in thousandths.
fn parse_weight(parameter: &[u8]) -> Option<u16> {
    let digits = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = digits.split_first()?;
    let fraction = match fraction {
        [] | [b'.'] => &[],
        [b'.', fraction @ ..] if fraction.len() <= 3 => fraction,
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let mut thousandths = fraction.iter().chain(&[b'0'; 3][fraction.len()..]);
    let thousandths = thousandths.try_fold(0, |sum, byte| Some(sum * 10 + digit(byte)?))?;
    match digit(whole)? * 1000 + thousandths {
        weight @ ..=1000 => Some(weight),
        _ => None,
    }
}

/// Whether content without a coding is refused: by name, or with all else by `*;q=0`.
fn is_identity_refused(weights: &[u16], identity: Option<u16>, rest: Option<u16>) -> bool {
    match identity {
        Some(weight) => weight == 0,
        None => rest == Some(0) && weights.iter().all(|weight| *weight == 0),
    }
}

/// `gzip` of `x-gzip` (RFC 9110 §8.4.1).
fn without_x(name: &[u8]) -> &[u8] {
    match name {
        [b'x' | b'X', b'-', rest @ ..] => rest,
        _ => name,
    }
}

/// The content coding of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceivedCoding {
    /// One of [`CODINGS`]; the empty set without one.
    Known(Codings),
    Other,
    Several,
}

fn response_coding(response: &HeaderMap) -> ReceivedCoding {
    let mut found = ReceivedCoding::Known(Codings::default());
    let lines = response.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let names = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    for name in
        names.map(without_x).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
    {
        let known = CODINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found = match known {
            _ if found != ReceivedCoding::Known(Codings::default()) => return ReceivedCoding::Several,
            Some((_, coding)) => ReceivedCoding::Known(*coding),
            None => ReceivedCoding::Other,
        };
    }
    found
}

/// Whether the response has a content coding.
pub(crate) fn is_coded(response: &HeaderMap) -> bool {
    response.contains_key(CONTENT_ENCODING)
        && response_coding(response) != ReceivedCoding::Known(Codings::default())
}

/// The field without the codings that it refuses, which means the same; `None`: unchanged. Some upstreams look for a
/// name alone, and miss its `q=0`.
pub(crate) fn remove_refused_codings(request: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = request.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    if !lines.iter().any(|line| line.windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"q=0"))) {
        return None;
    }
    let text = lines.join(&b","[..]);
    let members: Vec<&[u8]> = text
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
        .collect();
    let mut kept = Vec::with_capacity(members.len());
    for member in &members {
        let (name, weight) = parse_member(member)?;
        // `*` speaks of all that is not listed, and content without a coding is accepted unless it is refused.
        if name == b"*" || (weight == 0 && name.eq_ignore_ascii_case(b"identity")) {
            return None;
        }
        if weight > 0 {
            kept.push(*member);
        }
    }
    (kept.len() < members.len()).then(|| HeaderValue::from_bytes(&kept.join(&b", "[..])).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    const BR: Codings = Codings(1);
    const GZIP: Codings = Codings::GZIP;

    fn expected(accepted: Option<&str>, codings: Codings) -> Negotiated {
        let lines: Vec<_> = accepted.iter().map(|value| ("accept-encoding", *value)).collect();
        Negotiated::expected(&fields(&lines), codings)
    }

    #[test]
    fn a_request_selects_among_the_codings_in_use() {
        let both = Codings(BR.0 | GZIP.0);
        for (accepted, codings, selected) in [
            (Some("gzip, deflate, br, zstd"), both, Negotiated::Coded(BR)),
            (Some("gzip, deflate"), both, Negotiated::Coded(GZIP)),
            (Some("gzip,deflate"), BR, Negotiated::Offered),
            (Some("x-gzip"), both, Negotiated::Coded(GZIP)),
            (Some("gzip;q=1.0,deflate;q=0.6,identity;q=0.3"), both, Negotiated::Coded(GZIP)),
            (Some("br;q=0.5, gzip;q=0.8"), both, Negotiated::Coded(GZIP)),
            (Some("gzip;q=0, br"), GZIP, Negotiated::Offered),
            (Some("gzip;q=0"), GZIP, Negotiated::Plain),
            (Some("*"), GZIP, Negotiated::Coded(GZIP)),
            (Some("gzip;q=0, *"), GZIP, Negotiated::Offered),
            (Some("identity"), both, Negotiated::Plain),
            (Some("identity, gzip;q=0.5"), both, Negotiated::Plain),
            (Some(""), both, Negotiated::Plain),
            (None, both, Negotiated::Plain),
            (Some("gzip"), Codings::default(), Negotiated::Offered),
            (Some("gzip, identity;q=0"), GZIP, Negotiated::Verbatim),
            (Some("*;q=0"), GZIP, Negotiated::Verbatim),
            (Some("X-GZIP"), both, Negotiated::Coded(GZIP)),
            (Some("gzip;q=2"), GZIP, Negotiated::Verbatim),
            (Some("gzip, x-gzip;q=0"), GZIP, Negotiated::Verbatim),
            (Some("gzip;level=3"), GZIP, Negotiated::Verbatim),
        ] {
            assert_eq!(expected(accepted, codings), selected, "{accepted:?} {codings:?}");
        }
    }

    #[test]
    fn a_response_is_the_variant_of_its_coding() {
        for (accepted, coding, variant) in [
            ("gzip, br", "br", Negotiated::Coded(BR)),
            ("gzip", "GZIP", Negotiated::Coded(GZIP)),
            ("br", "X-GZIP", Negotiated::Offered),
            ("gzip", "", Negotiated::Offered),
            ("gzip", "identity", Negotiated::Offered),
            ("", "", Negotiated::Plain),
            // The upstream compresses for everybody.
            ("", "gzip", Negotiated::Plain),
            ("gzip;q=0, br", "gzip", Negotiated::Offered),
            ("identity, gzip;q=0.5", "gzip", Negotiated::Coded(GZIP)),
            // This upstream looks for the name alone, and the name was sent.
            ("gzip;q=0, *;q=0", "gzip", Negotiated::Verbatim),
            ("gzip;q=0, *", "gzip", Negotiated::Verbatim),
            ("gzip;q=0, *", "", Negotiated::Offered),
            ("gzip, dcb", "dcb", Negotiated::Verbatim),
            ("gzip, br", "gzip, br", Negotiated::Verbatim),
            // This upstream finds the name in another.
            ("pack200-gzip", "gzip", Negotiated::Verbatim),
            ("\"gzip\"", "gzip", Negotiated::Verbatim),
            ("pack200-gzip", "", Negotiated::Plain),
            // The upstream labels everything so.
            ("gzip, br", "utf-8", Negotiated::Offered),
        ] {
            let request = fields(&[("accept-encoding", accepted)]);
            let response = fields(&[("content-encoding", coding)]);
            assert_eq!(Negotiated::received(&request, &response), variant, "{accepted} {coding}");
        }
    }

    #[test]
    fn a_coding_that_is_not_used_any_more_is_forgotten() {
        let coded = |coding: &str| fields(&[("content-encoding", coding)]);
        let learn =
            |before: Codings, expected, received| before.learn(expected, received, &coded("gzip, br"));
        let learned = learn(Codings::default(), Negotiated::Offered, Negotiated::Coded(BR));
        assert_eq!(learned, BR);
        let both = learn(learned, Negotiated::Offered, Negotiated::Coded(GZIP));
        assert_eq!(both, Codings(BR.0 | GZIP.0));
        assert_eq!(learn(both, Negotiated::Coded(BR), Negotiated::Coded(BR)), both);
        assert_eq!(learn(both, Negotiated::Plain, Negotiated::Plain), both);
        assert_eq!(learn(both, Negotiated::Coded(BR), Negotiated::Offered), Codings::default());
        assert_eq!(learn(both, Negotiated::Coded(BR), Negotiated::Coded(GZIP)), GZIP);
        assert_eq!(Codings::from_byte(both.to_byte()), both);
        // A coding of another kind is selected by the field as it is.
        // Larder's own codings stay beside those of the upstream.
        let mixed = GZIP.learn_from_larder(Negotiated::Offered);
        assert!(mixed.are_given_by_larder() && mixed.contains(GZIP));
        assert_eq!(learn(mixed, Negotiated::Coded(BR), Negotiated::Coded(GZIP)), mixed);
        assert_eq!(learn(mixed, Negotiated::Coded(BR), Negotiated::Offered), Codings::default());
        assert_eq!(mixed.learn_from_larder(Negotiated::Coded(GZIP)), Codings(GIVEN_BY_LARDER));
        let other = learn(both, Negotiated::Coded(BR), Negotiated::Verbatim);
        assert_eq!(expected(Some("dcb, br"), other), Negotiated::Verbatim);
        assert_eq!(learn(other, Negotiated::Verbatim, Negotiated::Verbatim), other);
        assert_eq!(learn(other, Negotiated::Verbatim, Negotiated::Coded(GZIP)), GZIP);
        assert_eq!(learn(both, Negotiated::Verbatim, Negotiated::Verbatim), both);
    }

    #[test]
    fn an_unusual_request_changes_nothing_for_the_others() {
        let both = Codings(BR.0 | GZIP.0);
        let unusual = fields(&[("accept-encoding", "gzip;q=0, *")]);
        let gzip = fields(&[("content-encoding", "gzip")]);
        let received = Negotiated::received(&unusual, &gzip);
        let after = both.learn(Negotiated::expected(&unusual, both), received, &gzip);
        for usual in ["gzip, deflate, br, zstd", "gzip", "", "identity"] {
            assert_eq!(expected(Some(usual), after), expected(Some(usual), both), "{usual}");
        }
        // Its own next one finds what was stored.
        assert_eq!(Negotiated::expected(&unusual, after), Negotiated::Verbatim);
        assert_eq!(after.learn(Negotiated::Verbatim, Negotiated::Offered, &fields(&[])), both);
        assert_eq!(Codings::from_byte(after.to_byte()), after);
    }

    #[test]
    fn refused_codings_are_not_sent() {
        for (accepted, sent) in [
            ("gzip;q=0, br", Some("br")),
            ("gzip;q=0.000", Some("")),
            ("deflate;Q=0, gzip;q=0.5", Some("gzip;q=0.5")),
            ("gzip, br", None),
            ("gzip;q=0.5", None),
            ("gzip;q=0, *", None),
            ("gzip;q=0, identity;q=0", None),
            ("gzip;q=0, br;x=1", None),
        ] {
            let found = remove_refused_codings(&fields(&[("accept-encoding", accepted)]));
            assert_eq!(found.as_ref().map(HeaderValue::as_bytes), sent.map(str::as_bytes), "{accepted}");
        }
    }

    proptest::proptest! {
        /// A selected coding is an accepted one, whatever the field says.
        #[test]
        fn no_request_selects_what_it_refuses(accepted in "((gzip|br|zstd|identity|[*])(;q=(0|1|0\\.[0-9]))?,? ?){0,4}", used: u8) {
            let request = fields(&[("accept-encoding", accepted.as_str())]);
            if let Negotiated::Coded(coding) = Negotiated::expected(&request, Codings::from_byte(used)) {
                let weights = Accepted::parse(&request).expect("it is well-formed");
                let weight = weights.iter().find(|(known, _)| *known == coding).map(|(_, weight)| weight);
                proptest::prop_assert!(weight > Some(0));
            }
        }

        /// A request without that coding never finds a response that has it.
        #[test]
        fn a_coding_that_was_named_is_never_filed_as_none(accepted in "((x-|pack200-)?(gzip|\"gzip\"|br|zstd|identity|[*])(;q=(0|1|0\\.[0-9]))?, ?){0,4}") {
            let request = fields(&[("accept-encoding", accepted.as_str())]);
            let variant = Negotiated::received(&request, &fields(&[("content-encoding", "gzip")]));
            if matches!(variant, Negotiated::Offered | Negotiated::Plain) {
                let sent = remove_refused_codings(&request);
                let sent = sent.as_ref().map_or(accepted.as_bytes(), HeaderValue::as_bytes);
                let is_named = sent.windows(4).any(|name| name == b"gzip") || sent.contains(&b'*');
                proptest::prop_assert!(!is_named, "{accepted}");
            }
        }
    }
}
