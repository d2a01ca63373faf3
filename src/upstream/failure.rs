//! Why a request has no answer, and whether it may be sent once more.

use std::error::Error;
use std::io;

use super::UpstreamError;
use super::body::Progress;

pub struct Failure {
    pub error: UpstreamError,
    /// The connection had served before, and died without a byte of an answer to this request.
    pub stale_connection: bool,
}

impl Failure {
    pub fn because(error: UpstreamError) -> Self {
        Self { error, stale_connection: false }
    }

    /// There is no connection.
    pub fn unreachable(error: &(dyn Error + 'static)) -> Self {
        let is_ours = std::iter::successors(Some(error), |&error| error.source()).any(out_of_room);
        Self::because(match is_ours {
            true => UpstreamError::Busy,
            false => UpstreamError::Unreachable(innermost(error)),
        })
    }

    /// `error`: hyper's, or one that was caused by it.
    pub fn of(error: &(dyn Error + 'static), died_idle: bool, progress: &Progress) -> Self {
        if !progress.is_complete() && progress.is_cut() {
            return Self::because(UpstreamError::RequestCut);
        }
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        let is_parse = |error: &hyper::Error| error.is_parse();
        let error = match causes.find_map(|error| error.downcast_ref()).is_some_and(is_parse) {
            true => UpstreamError::Invalid(innermost(error)),
            false => UpstreamError::Closed,
        };
        let stale_connection = died_idle && error == UpstreamError::Closed;
        Self { error, stale_connection }
    }
}

/// ENFILE and EMFILE, on every Unix; the standard library has no name for them.
const OUT_OF_FILES: [i32; 2] = [23, 24];

/// This machine has no port or file left for another connection. That says nothing of the upstream.
fn out_of_room(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
            || error.raw_os_error().is_some_and(|error| OUT_OF_FILES.contains(&error))
    })
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
