//! By which names a request is known: `X-Request-Id`, and its place in a trace (W3C Trace Context). They go to the
//! upstream, and are never part of what is stored.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::hex;
use crate::telemetry::{Place, Remote, random, random_id};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Of the flags of a trace.
const SAMPLED: u8 = 1;

/// Longer ones are not taken from clients.
const LONGEST: usize = 128;

/// The client's, if it is one, and harmless wherever it is written; else one of our own.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    match only(headers, &X_REQUEST_ID).filter(|id| is_sane(id.as_bytes())) {
        Some(id) => id.clone(),
        None => {
            // Hexadecimal digits are a valid value.
            let digits = hex::encode(&random_id().to_be_bytes());
            HeaderValue::try_from(digits).unwrap_or(HeaderValue::from_static("none"))
        }
    }
}

fn is_sane(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@~".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(is_plain)
}

/// A trace that the client is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub id: u128,
    /// The client's own place in it.
    pub parent: u64,
    pub flags: u8,
}

impl Trace {
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(only(headers, &TRACEPARENT)?.to_str().ok()?)
    }

    /// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`. A later version may say more after it.
    fn parse(text: &str) -> Option<Self> {
        let hex = |range| {
            let digits: &str = text.get(range)?;
            let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
        };
        let version = hex(0..2)?;
        let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let ends = match version {
            0 => text.len() == 55,
            0xff => false,
            _ => text.len() == 55 || text.as_bytes().get(55) == Some(&b'-'),
        };
        let (id, parent, flags) = (hex(3..35)?, hex(36..52)?, hex(53..55)?);
        let is_valid = dashes && ends && id != 0 && parent != 0;
        is_valid.then_some(Self { id, parent: parent as u64, flags: flags as u8 })
    }

    pub fn as_remote(self) -> Remote {
        Remote { trace: self.id, parent: self.parent, is_sampled: self.flags & SAMPLED != 0 }
    }

    pub fn id_as_value(self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("{:032x}", self.id)).ok()
    }

    /// As a child of this one says it. Of the flags, those that are known.
    fn continued(self) -> Option<HeaderValue> {
        written(self.id, random().max(1), self.flags & SAMPLED)
    }
}

fn written(trace: u128, own: u64, flags: u8) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("00-{trace:032x}-{own:016x}-{flags:02x}")).ok()
}

/// The upstream is part of larder's own span.
pub fn within_span(headers: &mut HeaderMap, place: Place) {
    if let Some(parent) = written(place.trace, place.own, SAMPLED) {
        headers.insert(TRACEPARENT, parent);
    }
}

/// Gives larder's request to the upstream its names. A trace that can't be read is none: the upstream begins its own.
pub fn to_upstream(headers: &mut HeaderMap, request_id: Option<&HeaderValue>) {
    if let Some(id) = request_id {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    if !headers.contains_key(TRACEPARENT) {
        return;
    }
    match Trace::of(headers).and_then(Trace::continued) {
        Some(child) => drop(headers.insert(TRACEPARENT, child)),
        None => {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
    }
}

/// What an upstream says of one request is nothing to the next one.
pub fn forget(headers: &mut HeaderMap) {
    for name in [X_REQUEST_ID, TRACEPARENT, TRACESTATE, TRACERESPONSE] {
        headers.remove(name);
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(fields: &[(&'static str, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        let mut headers = HeaderMap::new();
        for (name, text) in fields {
            headers.append(*name, value(text));
        }
        headers
    }

    #[test]
    fn an_id_is_taken_only_if_it_is_harmless() {
        let longest = "x".repeat(LONGEST);
        for id in ["7", "a-b_c.d:e+f/g=h@i~", longest.as_str()] {
            assert_eq!(request_id(&with(&[("x-request-id", id)])), id);
        }
        let longer = "x".repeat(LONGEST + 1);
        for id in ["", " ", "a b", "a\"b", "a\\b", "a,b", "é", longer.as_str()] {
            let made = request_id(&with(&[("x-request-id", id)]));
            assert!(made.len() == 32 && made.as_bytes().iter().all(u8::is_ascii_hexdigit), "{made:?}");
        }
        let twice = with(&[("x-request-id", "a"), ("x-request-id", "b")]);
        assert_eq!(request_id(&twice).len(), 32);
        assert_ne!(request_id(&twice), request_id(&twice));
    }

    #[test]
    fn a_trace_is_read_as_the_recommendation_says() {
        let read = Trace::parse(PARENT).unwrap();
        let id = 0x0af7651916cd43dd8448eb211c80319c;
        assert_eq!(read, Trace { id, parent: 0xb7ad6b7169203331, flags: 1 });
        let later = PARENT.replacen("00", "cc", 1);
        assert_eq!(Trace::parse(&later), Some(read));
        assert_eq!(Trace::parse(&format!("{later}-what-is-to-come")), Some(read));
        for wrong in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{later}."),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &PARENT.replace("-01", "_01"),
            &PARENT.replace("-01", "-+1"),
            &PARENT.replace("0af", "é0"),
        ] {
            assert_eq!(Trace::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_trace_goes_on_with_a_parent_of_our_own_and_a_broken_one_ends() {
        let mut fields = with(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]);
        to_upstream(&mut fields, None);
        let (before, after) = (Trace::parse(PARENT).unwrap(), Trace::of(&fields).unwrap());
        assert_eq!((after.id, after.flags), (before.id, before.flags));
        assert_ne!(after.parent, before.parent);
        assert_eq!(fields["tracestate"], "a=1,b=2");

        for broken in [with(&[("traceparent", "00-x"), ("tracestate", "a=1")]), {
            let mut twice = with(&[("traceparent", PARENT), ("tracestate", "a=1")]);
            twice.append("traceparent", HeaderValue::from_static(PARENT));
            twice
        }] {
            let mut fields = broken;
            to_upstream(&mut fields, None);
            assert_eq!(fields, HeaderMap::new());
        }
    }
}
