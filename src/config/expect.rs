//! `expect`, of the upstream or of a route: who answers `Expect: 100-continue`.

use super::diagnostics::{Diagnostics, Location};
use super::keys::Reader;
use super::scalars::words;

/// Whether the upstream answers.
pub(super) const EXPECT: Reader<bool> = words!("answer" => false, "forward" => true);

/// Warns of an expectation that is to be forwarded over HTTP/2.
pub(super) fn warn_of_http2(location: Location, diagnostics: &Diagnostics) {
    diagnostics
        .warning(location, "over HTTP/2 `Expect: 100-continue` is answered by larder, and not forwarded")
        .help("remove `http2`, or `expect`; larder forwards it over HTTP/1.1");
}
