//! The section `limits`.

use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::keys::Reader;
use super::scalars::{BOOLEAN, COUNT, DURATION, PERCENT, POSITIVE_DURATION, POSITIVE_SIZE, SIZE, is_off};
use super::section::{Kind, OFF};
use super::settings::settings;
use super::yaml::YamlNode;

settings! {
    /// Limits on client connections and their requests.
    pub struct Limits = "limits" {
        /// Maximum number of open client connections.
        connections: usize = COUNT, default "10000";
        /// Maximum number of open connections of one client address, or of one /64 in IPv6: a number, a share of
        /// `connections` (at least 64), or `off`. Beyond it the client's longest idle connection is closed; if none is
        /// idle, the new one is answered 503. `trusted_proxies` are not bounded.
        connections_per_client: ClientShare = CLIENT_SHARE, default "25%";
        /// Bytes per second that a client must send of a request, or read of a response, while larder waits for it,
        /// measured over `body_timeout` of waiting. `off`: one byte in `body_timeout`.
        min_rate: u64 = OFF_OR_SIZE, default "1KiB";
        /// Purge targets that writes may name in a minute, for each client address (an IPv6 /64) or credential; ten times as
        /// many for all credentials of one address. Beyond it writes pass and purge what they name in full, but leave no
        /// doubt and are not widened; many at once wait, or get 429 or 503. `off`: no bound. `trusted_proxies` are not bounded.
        purge_targets_per_client: u64 = OFF_OR_COUNT, default "30000";
        /// Writes in a minute that purge their own URL although their content was cut off and the API told no success, for
        /// each client address (an IPv6 /64) or credential; ten times as many for all credentials of one address. Beyond it
        /// they purge nothing. `off`: no bound. `trusted_proxies` are not bounded.
        cut_writes_per_client: u64 = OFF_OR_COUNT, default "30";
        /// Bytes in a minute that are fetched for a client beyond those that any client is sent: of a whole where it asked
        /// for a range, behind a 304, or after it has left. For each client address (an IPv6 /64) or credential; ten times
        /// as many for all credentials of one address. Beyond it such requests are passed as they are. `off`: no bound.
        /// `trusted_proxies` are not bounded.
        unsent_bytes_per_client: u64 = OFF_OR_SIZE, default "256MiB";
        /// Maximum size of a request's header section. Larger ones are answered 431, or 414 if the request line alone leaves
        /// less than 512 bytes for the fields.
        header_bytes: usize = HEADER_BYTES, default "32KiB";
        /// Maximum number of fields in a request's header section.
        header_count: usize = HEADER_COUNT, default "100";
        /// Time for a request's header section to arrive, from its first byte. For the first request of a connection,
        /// from the connection's start.
        header_timeout: Duration = POSITIVE_DURATION, default "10s";
        /// Time between two reads of a request's content, and between two writes of a response to a client that does
        /// not read.
        body_timeout: Duration = POSITIVE_DURATION, default "30s";
        /// How long an idle keep-alive connection stays open.
        idle_timeout: Duration = POSITIVE_DURATION, default "60s";
        /// A client that closes its sending side gets its response, however long it takes (RFC 9112 §9.6). A client that leaves
        /// cancels nothing then until its response can't be written. `false`: a read that is not stored, and a write with
        /// `purges: []`, is cancelled once nothing was sent to such a client for a second; all others go on.
        half_close: bool = BOOLEAN, default "false";
        /// How long an upgraded connection (a WebSocket, for example) stays open without a byte in either direction.
        tunnel_idle: Duration = POSITIVE_DURATION, default "1h";
        /// How long requests in flight may take to finish after SIGTERM.
        drain: Duration = DURATION, default "30s";
    }
}

/// The part of `header_bytes` that the request line may not use.
const FIELD_BYTES: usize = 512;

/// The bytes of a request line beside method and target, and the space between them: ` HTTP/1.1` and the line's end.
const VERSION_BYTES: usize = 11;

impl Limits {
    /// The longest request line under this limit on the header section.
    pub(crate) fn max_request_line(header_bytes: usize) -> usize {
        header_bytes.saturating_sub(FIELD_BYTES)
    }

    /// Whether the request line is too long. `length`: the bytes of method, space and target.
    pub(crate) fn is_target_too_long(&self, length: usize) -> bool {
        length + VERSION_BYTES > Self::max_request_line(self.header_bytes)
    }

    /// The limit on the connections of one client; `None`: there is none.
    pub(crate) fn max_connections_per_client(&self) -> Option<usize> {
        self.connections_per_client.resolve(self.connections)
    }
}

/// A limit for each client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientShare {
    /// No limit.
    Off,
    /// A number of connections or requests.
    Count(usize),
    /// A share of the whole limit, in percent.
    Percent(usize),
}

/// A browser opens six connections, so this many are ten browsers.
const MIN_SHARE: usize = 64;

impl ClientShare {
    /// The limit under `total` for all clients; `None`: there is none.
    pub(crate) fn resolve(self, total: usize) -> Option<usize> {
        match self {
            ClientShare::Off => None,
            ClientShare::Count(count) => Some(count),
            ClientShare::Percent(percent) => Some((total * percent / 100).max(MIN_SHARE)),
        }
    }
}

pub(super) const CLIENT_SHARE: Reader<ClientShare> = Reader::new(
    Kind::OneOf(&[OFF, Kind::Count, Kind::Matching("^[0-9]+%$")]),
    |node, diagnostics| match node.text() {
        Some(word) if is_off(word) => Some(ClientShare::Off),
        Some(word) if word.ends_with('%') => PERCENT.read(node, diagnostics).map(ClientShare::Percent),
        _ => COUNT.read(node, diagnostics).map(ClientShare::Count),
    },
);

/// 0 stands for `off`.
const OFF_OR_SIZE: Reader<u64> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Size]), |node, diagnostics| match node.text() {
        Some(word) if is_off(word) => Some(0),
        _ => SIZE.read(node, diagnostics),
    });

/// 0 stands for `off`.
const OFF_OR_COUNT: Reader<u64> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Count]), |node, diagnostics| match node.text() {
        Some(word) if is_off(word) => Some(0),
        _ => COUNT.read(node, diagnostics).map(|count| count as u64),
    });

const HEADER_COUNT: Reader<usize> = Reader::new(Kind::Count, header_count);
const HEADER_BYTES: Reader<usize> = Reader::new(Kind::Size, header_bytes);

fn header_count(node: &YamlNode, diagnostics: &Diagnostics) -> Option<usize> {
    match COUNT.read(node, diagnostics)? {
        count @ 10..=10_000 => Some(count),
        _ => {
            diagnostics
                .error(node.location, "the number of fields must be between 10 and 10000")
                .help("write `100`");
            None
        }
    }
}

fn header_bytes(node: &YamlNode, diagnostics: &Diagnostics) -> Option<usize> {
    let bytes = POSITIVE_SIZE.read(node, diagnostics)?;
    match usize::try_from(bytes) {
        // hyper's parser needs 8 KiB to be able to answer 431.
        Ok(bytes @ 8192..=16_777_216) => Some(bytes),
        _ => {
            diagnostics
                .error(node.location, "the size of a header section must be between 8KiB and 16MiB")
                .help("write `32KiB`");
            None
        }
    }
}
