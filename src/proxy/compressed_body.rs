//! Compresses the content of a response on its way.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use crate::memory_budget::{MemoryBudget, Reservation};
use crate::upstream::{BodyError, UpstreamBody};

/// The memory of an encoder: its hash chains, window and output, rounded up.
const ENCODER_BYTES: u64 = 320 * 1024;

/// The compressed bytes that leave while the upstream has more.
const MIN_FRAME_BYTES: usize = 8 * 1024;

/// A response's content in gzip. All that has arrived leaves before it waits for more, so that a slow response stays a
/// stream.
pub struct CompressedBody {
    inner: UpstreamBody,
    /// `None`: the content has ended.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// The encoder holds content that has not left.
    is_unflushed: bool,
    trailers: Option<HeaderMap>,
    _reservation: Reservation,
}

impl CompressedBody {
    pub(super) fn new(inner: UpstreamBody, memory: &Arc<MemoryBudget>) -> Self {
        let mut reservation = memory.reserve();
        reservation.grow(ENCODER_BYTES);
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        Self { inner, encoder, is_unflushed: false, trailers: None, _reservation: reservation }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            // Writing to memory does not fail.
            let compressed = match Pin::new(&mut self.inner).poll_frame(cx)? {
                Poll::Pending if !self.is_unflushed => return Poll::Pending,
                Poll::Pending => {
                    self.is_unflushed = false;
                    _ = encoder.flush();
                    std::mem::take(encoder.get_mut())
                }
                Poll::Ready(frame) => match frame.map(Frame::into_data) {
                    Some(Ok(data)) => {
                        self.is_unflushed |= !data.is_empty();
                        _ = encoder.write_all(&data);
                        if encoder.get_ref().len() < MIN_FRAME_BYTES {
                            continue;
                        }
                        std::mem::take(encoder.get_mut())
                    }
                    end => {
                        self.trailers = end.and_then(|frame| frame.err()?.into_trailers().ok());
                        self.encoder.take().and_then(|encoder| encoder.finish().ok()).unwrap_or_default()
                    }
                },
            };
            return Poll::Ready(Some(Ok(Frame::data(compressed.into()))));
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}
