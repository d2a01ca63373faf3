//! The identifiers of a request: `X-Request-Id` and its W3C Trace Context. They are forwarded to the upstream and never
//! stored.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::hex;
use crate::telemetry::{RemoteParent, SpanContext, random_u64, random_u128};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The sampled bit of the trace flags.
const SAMPLED_FLAG: u8 = 1;

/// The longest request id that is accepted from clients, in bytes.
const MAX_REQUEST_ID_LENGTH: usize = 128;

/// The client's request id if it is safe to write anywhere, and a new one otherwise.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match single_value(headers, &X_REQUEST_ID).filter(|id| is_sane(id.as_bytes())) {
        Some(id) => id.clone(),
        None => {
            let digits = hex::encode(&random_u128().to_be_bytes());
            HeaderValue::try_from(digits).unwrap_or(HeaderValue::from_static("none"))
        }
    }
}

fn is_sane(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@~".contains(byte);
    (1..=MAX_REQUEST_ID_LENGTH).contains(&id.len()) && id.iter().all(is_plain)
}

/// The trace that the client belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceContext {
    pub id: u128,
    /// The client's span id.
    pub parent: u64,
    pub flags: u8,
}

impl TraceContext {
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Self::parse(single_value(headers, &TRACEPARENT)?.to_str().ok()?)
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

    pub(super) fn as_remote(self) -> RemoteParent {
        RemoteParent { trace: self.id, parent: self.parent, is_sampled: self.flags & SAMPLED_FLAG != 0 }
    }

    pub(super) fn id_as_value(self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("{:032x}", self.id)).ok()
    }

    /// The `traceparent` of a child of this span, with the known flags.
    fn child_traceparent(self) -> Option<HeaderValue> {
        format_traceparent(self.id, random_u64().max(1), self.flags & SAMPLED_FLAG)
    }
}

fn format_traceparent(trace: u128, own: u64, flags: u8) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("00-{trace:032x}-{own:016x}-{flags:02x}")).ok()
}

/// Makes larder's own span the parent of the upstream's.
pub(super) fn set_parent_span(headers: &mut HeaderMap, place: SpanContext) {
    if let Some(parent) = format_traceparent(place.trace, place.span_id, SAMPLED_FLAG) {
        headers.insert(TRACEPARENT, parent);
    }
}

/// Adds the identifiers to an upstream request. An invalid `traceparent` is removed, so that the upstream starts a trace.
pub(super) fn prepare_request(headers: &mut HeaderMap, request_id: Option<&HeaderValue>) {
    if let Some(id) = request_id {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    if !headers.contains_key(TRACEPARENT) {
        return;
    }
    match TraceContext::from_headers(headers).and_then(TraceContext::child_traceparent) {
        Some(child) => drop(headers.insert(TRACEPARENT, child)),
        None => {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
    }
}

/// Removes the identifiers of one request from a response that is stored for others.
pub(super) fn remove_request_ids(headers: &mut HeaderMap) {
    for name in [X_REQUEST_ID, TRACEPARENT, TRACESTATE, TRACERESPONSE] {
        headers.remove(name);
    }
}

fn single_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
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
    fn a_request_id_is_taken_only_if_it_is_safe() {
        let longest = "x".repeat(MAX_REQUEST_ID_LENGTH);
        for id in ["7", "a-b_c.d:e+f/g=h@i~", longest.as_str()] {
            assert_eq!(request_id(&with(&[("x-request-id", id)])), id);
        }
        let longer = "x".repeat(MAX_REQUEST_ID_LENGTH + 1);
        for id in ["", " ", "a b", "a\"b", "a\\b", "a,b", "é", longer.as_str()] {
            let made = request_id(&with(&[("x-request-id", id)]));
            assert!(made.len() == 32 && made.as_bytes().iter().all(u8::is_ascii_hexdigit), "{made:?}");
        }
        let twice = with(&[("x-request-id", "a"), ("x-request-id", "b")]);
        assert_eq!(request_id(&twice).len(), 32);
        assert_ne!(request_id(&twice), request_id(&twice));
    }

    #[test]
    fn traceparent_is_parsed_by_the_recommendation() {
        let read = TraceContext::parse(PARENT).unwrap();
        let id = 0x0af7651916cd43dd8448eb211c80319c;
        assert_eq!(read, TraceContext { id, parent: 0xb7ad6b7169203331, flags: 1 });
        let later = PARENT.replacen("00", "cc", 1);
        assert_eq!(TraceContext::parse(&later), Some(read));
        assert_eq!(TraceContext::parse(&format!("{later}-what-is-to-come")), Some(read));
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
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_trace_continues_with_our_span_and_a_broken_one_ends() {
        let mut fields = with(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]);
        prepare_request(&mut fields, None);
        let (before, after) =
            (TraceContext::parse(PARENT).unwrap(), TraceContext::from_headers(&fields).unwrap());
        assert_eq!((after.id, after.flags), (before.id, before.flags));
        assert_ne!(after.parent, before.parent);
        assert_eq!(fields["tracestate"], "a=1,b=2");

        for broken in [with(&[("traceparent", "00-x"), ("tracestate", "a=1")]), {
            let mut twice = with(&[("traceparent", PARENT), ("tracestate", "a=1")]);
            twice.append("traceparent", HeaderValue::from_static(PARENT));
            twice
        }] {
            let mut fields = broken;
            prepare_request(&mut fields, None);
            assert_eq!(fields, HeaderMap::new());
        }
    }
}
