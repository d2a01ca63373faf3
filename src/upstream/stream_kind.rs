//! Which responses live long.

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use hyper::body::Incoming;

/// A response that lives long by its nature.
#[derive(Clone, Copy)]
pub(super) enum StreamKind {
    /// A tunnel, server-sent events, or a multipart response without end.
    Endless,
    /// gRPC calls and lines of JSON: most are short, but some stream.
    Mixed,
}

const ENDLESS_MEDIA_TYPES: [&str; 2] = ["text/event-stream", "multipart/x-mixed-replace"];

const MIXED_MEDIA_TYPES: [&str; 5] = [
    "application/grpc",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/stream+json",
];

/// The kind of a response that may live long.
pub(super) fn stream_kind(response: &Response<Incoming>) -> Option<StreamKind> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Some(StreamKind::Endless);
    }
    let media_type = response.headers().get(CONTENT_TYPE)?.as_bytes();
    let is = |prefix: &&str| {
        let start = media_type.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if MIXED_MEDIA_TYPES.iter().any(is) {
        Some(StreamKind::Mixed)
    } else if ENDLESS_MEDIA_TYPES.iter().any(is) {
        Some(StreamKind::Endless)
    } else {
        None
    }
}
