//! The section `upstream`: the API behind larder, and the connections to it.

use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::expect::{EXPECT, warn_of_http2};
use super::fields::{Fields, expand_short_form};
use super::keys::Reader;
use super::limits::{CLIENT_SHARE, ClientShare};
use super::scalars::{BOOLEAN, COUNT, POSITIVE_DURATION, POSITIVE_SIZE, SIZE, is_off, parsed};
use super::section::{Kind, OFF};
use super::settings::{Settings, settings};
use super::upstream_tls::{UPSTREAM_TLS, UpstreamTlsSettings};
use super::url::{UPSTREAM_URLS, authority};
use super::yaml::YamlNode;
use super::{UpstreamAddress, UpstreamHost};

settings! {
    /// The upstream and the pool of connections to it.
    pub struct UpstreamSettings = "upstream" {
        /// `http://host:port`, `https://host:port` or `unix:/path`; or a list of them, for several instances of one API.
        addresses as "url": Vec<UpstreamAddress> = UPSTREAM_URLS, required;
        /// Time to establish a connection, including the TLS handshake.
        connect_timeout: Duration = POSITIVE_DURATION, default "2s";
        /// Time from the end of the request to the response's header section, and between two reads of its body.
        response_timeout: Duration = POSITIVE_DURATION, default "30s";
        /// How long an idle connection stays in the pool. Keep it below the upstream's own keep-alive timeout (Node.js:
        /// 5 s), so that no write is sent on a connection that was just closed.
        idle_timeout: Duration = POSITIVE_DURATION, default "4s";
        /// Maximum number of open connections; further requests wait for one.
        max_connections: usize = COUNT, default "512";
        /// Maximum number of event streams (`text/event-stream`), gRPC responses, lines of JSON (`application/x-ndjson`) and
        /// tunnels, beside `max_connections`.
        max_streams: usize = COUNT, default "1024";
        /// The part of `max_connections`, of the three quarters of them that uploads may use, and of `max_streams`, that
        /// requests of one client address, or of one /64 in IPv6, may use: a number, a percentage (at least 64), or `off`.
        /// Beyond it the client's requests wait as if all were in use. `trusted_proxies` are not bounded.
        max_per_client: ClientShare = CLIENT_SHARE, default "25%";
        /// A request with a `Content-Length` up to this is read whole before it takes a connection. `0`: none is. Over HTTP/2,
        /// this much of a longer one is kept while it is sent: the upstream may refuse it unprocessed, and it is sent again.
        buffer_requests: u64 = SIZE, default "64KiB";
        /// How long a request waits for a connection, in order of arrival, before it is answered 503.
        queue_timeout: Duration = POSITIVE_DURATION, default "2s";
        /// Maximum number of fields in a response's header section; more are answered 502.
        header_count: usize = COUNT, default "512";
        /// Maximum size of a response's header section, from `8KiB` to `1MiB`; a larger one is answered 502, though over HTTP/1.1
        /// up to twice as much may pass. The content is read ahead by as much for a client that reads slowly.
        header_bytes: usize = HEADER_BYTES, default "128KiB";
        /// `Expect: 100-continue` of an HTTP/1.1 client. `answer`: larder answers 100 when it reads the content; `forward`: the
        /// upstream answers, by HTTP/1.1, and the content is sent after its 100, or after a second.
        forwards_expect as "expect": bool = EXPECT, default "answer";
        /// Circuit breaker: after this many consecutive failures to connect or to answer in time, two requests a second
        /// probe the upstream and all others are answered 503, until it answers. `off` disables it. Each of several
        /// instances has its own, and the others are preferred after its first failure.
        breaker: Option<usize> = OFF_OR_COUNT, default "20";
        /// Look up the addresses of the upstream's names again after each such time, and balance over them: each address is
        /// an instance of its own, with its own health. `off`: connections go to the first address that accepts one.
        resolve_every: Option<Duration> = OFF_OR_DURATION, default "off";
        /// Use HTTP/2: with prior knowledge over http, negotiated by ALPN over https.
        http2: bool = BOOLEAN, default "false";
        /// TLS to an `https` upstream. The files are read again when they change.
        tls: UpstreamTlsSettings = UPSTREAM_TLS, default "{}";
        /// The `Host` sent to the upstream: `preserve` keeps the client's, a name replaces it.
        host: UpstreamHost = HOST, default "preserve";
    }
}

impl UpstreamSettings {
    /// The URLs of all instances, with commas.
    pub(crate) fn urls(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// A URL, a list of URLs, or a mapping with `url`.
pub(super) const UPSTREAM: Reader<UpstreamSettings> = Reader::new(
    Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text), Kind::Mapping(UpstreamSettings::SECTION)]),
    |node, diagnostics| upstream(&expand_short_form(node, "url"), diagnostics),
);

fn upstream(node: &YamlNode, diagnostics: &Diagnostics) -> Option<UpstreamSettings> {
    let fields = Fields::open(node, UpstreamSettings::SECTION, diagnostics)?;
    let settings = UpstreamSettings::read(&fields)?;
    let is_https = |address: &UpstreamAddress| matches!(address, UpstreamAddress::Https { .. });
    let is_encrypted = settings.addresses.iter().all(is_https);
    if !is_encrypted && settings.addresses.iter().any(is_https) {
        diagnostics
            .error(fields.value_location("url"), "some of the URLs are https, and some are not")
            .help("write `https://` before all of them, or before none");
    }
    if let (Some(given), true, true) = (fields.node("expect"), settings.forwards_expect, settings.http2) {
        warn_of_http2(given.location, diagnostics);
    }
    if let (Some(given), false) = (fields.node("tls"), is_encrypted) {
        diagnostics
            .error(given.location, "`tls` is set, but the URL's scheme is without TLS")
            .help("write `url: https://…`");
    }
    Some(settings)
}

/// `None` stands for `off`.
pub(super) const OFF_OR_COUNT: Reader<Option<usize>> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Count]), |node, diagnostics| match node.text() {
        Some(word) if is_off(word) => Some(None),
        _ => COUNT.read(node, diagnostics).map(Some),
    });

/// `None` stands for `off`.
pub(super) const OFF_OR_DURATION: Reader<Option<Duration>> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Duration]), |node, diagnostics| match node.text() {
        Some(word) if is_off(word) => Some(None),
        _ => POSITIVE_DURATION.read(node, diagnostics).map(Some),
    });

const HOST: Reader<UpstreamHost> =
    Reader::new(Kind::OneOf(&[Kind::Word(&["preserve"]), Kind::Text]), |node, diagnostics| {
        parsed(node, "`preserve` or a host name", diagnostics, |text| match text {
            "preserve" => Ok(UpstreamHost::Preserve),
            name => authority(name).map(UpstreamHost::Set),
        })
    });

const HEADER_BYTES: Reader<usize> = Reader::new(Kind::Size, |node, diagnostics| {
    let bytes = POSITIVE_SIZE.read(node, diagnostics)?;
    match usize::try_from(bytes) {
        // hyper's parser needs 8 KiB.
        Ok(bytes @ 8192..=1_048_576) => Some(bytes),
        _ => {
            diagnostics
                .error(node.location, "the size of a response's header section must be between 8KiB and 1MiB")
                .help("write `128KiB`");
            None
        }
    }
});
