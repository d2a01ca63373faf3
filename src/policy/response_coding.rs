//! The content codings that larder can give to a response.

use super::accept_encoding::Codings;

/// A coding that larder gives to responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseCoding {
    Zstd,
    Brotli,
    Gzip,
}

impl ResponseCoding {
    pub(super) const ALL: [ResponseCoding; 3] =
        [ResponseCoding::Zstd, ResponseCoding::Brotli, ResponseCoding::Gzip];

    /// The name in `Content-Encoding`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ResponseCoding::Zstd => "zstd",
            ResponseCoding::Brotli => "br",
            ResponseCoding::Gzip => "gzip",
        }
    }

    /// Ends the tag of a response that larder compressed so.
    pub(super) fn tag_end(self) -> &'static [u8] {
        match self {
            ResponseCoding::Zstd => b"-larder-zstd\"",
            ResponseCoding::Brotli => b"-larder-br\"",
            ResponseCoding::Gzip => b"-larder-gzip\"",
        }
    }

    pub(super) fn to_codings(self) -> Codings {
        match self {
            ResponseCoding::Zstd => Codings::ZSTD,
            ResponseCoding::Brotli => Codings::BROTLI,
            ResponseCoding::Gzip => Codings::GZIP,
        }
    }
}
