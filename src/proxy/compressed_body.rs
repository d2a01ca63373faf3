//! Compresses the content of a response on its way.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use crate::memory_budget::{MemoryBudget, Reservation};
use crate::policy::response_coding::ResponseCoding;
use crate::upstream::{BodyError, UpstreamBody};

/// The compressed bytes that leave while the upstream has more.
const MIN_FRAME_BYTES: usize = 8 * 1024;

/// The window of brotli and zstd, as a power of two: most responses of an API fit.
const WINDOW_BITS: u32 = 18;

/// The quality, from 0 to 11: denser than gzip, and about as fast.
const BROTLI_QUALITY: u32 = 4;

/// The level, from 1 to 22: the library's default.
const ZSTD_LEVEL: i32 = 3;

/// An encoder that writes to memory.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(coding: ResponseCoding) -> io::Result<Self> {
        Ok(match coding {
            ResponseCoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            ResponseCoding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), MIN_FRAME_BYTES, BROTLI_QUALITY, WINDOW_BITS);
                Encoder::Brotli(Box::new(writer))
            }
            ResponseCoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW_BITS)?;
                Encoder::Zstd(encoder)
            }
        })
    }

    /// The memory of an encoder: its tables, window and output, rounded up.
    fn memory(coding: ResponseCoding) -> u64 {
        let kilobytes = match coding {
            ResponseCoding::Gzip => 320,
            ResponseCoding::Brotli => 2048,
            ResponseCoding::Zstd => 1536,
        };
        kilobytes * 1024
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Gzip(encoder) => encoder,
            Encoder::Brotli(encoder) => encoder,
            Encoder::Zstd(encoder) => encoder,
        }
    }

    /// The compressed bytes so far.
    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Brotli(encoder) => encoder.get_mut(),
            Encoder::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Brotli(encoder) => Ok(encoder.into_inner()),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// A response's content in a coding. All that has arrived leaves before it waits for more, so that a slow response stays a
/// stream.
pub(crate) struct CompressedBody {
    inner: UpstreamBody,
    /// `None`: the content has ended. An error: it could not be made, and the content ends so.
    encoder: Option<io::Result<Encoder>>,
    /// The encoder holds content that has not left.
    is_unflushed: bool,
    trailers: Option<HeaderMap>,
    _reservation: Reservation,
}

impl CompressedBody {
    pub(super) fn new(inner: UpstreamBody, coding: ResponseCoding, memory: &Arc<MemoryBudget>) -> Self {
        let mut reservation = memory.reserve();
        reservation.grow(Encoder::memory(coding));
        let encoder = Some(Encoder::new(coding));
        Self { inner, encoder, is_unflushed: false, trailers: None, _reservation: reservation }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let encoder = match &mut self.encoder {
                Some(Ok(encoder)) => encoder,
                Some(Err(_)) => {
                    let failed = self.encoder.take().and_then(Result::err);
                    return Poll::Ready(failed.map(|error| Err(BodyError::Coding(error))));
                }
                None => {
                    return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
            };
            let compressed = match Pin::new(&mut self.inner).poll_frame(cx)? {
                Poll::Pending if !self.is_unflushed => return Poll::Pending,
                Poll::Pending => {
                    self.is_unflushed = false;
                    encoder.writer().flush().map(|()| std::mem::take(encoder.output()))
                }
                Poll::Ready(frame) => match frame.map(Frame::into_data) {
                    Some(Ok(data)) => {
                        self.is_unflushed |= !data.is_empty();
                        let written = encoder.writer().write_all(&data);
                        if written.is_ok() && encoder.output().len() < MIN_FRAME_BYTES {
                            continue;
                        }
                        written.map(|()| std::mem::take(encoder.output()))
                    }
                    end => {
                        self.trailers = end.and_then(|frame| frame.err()?.into_trailers().ok());
                        self.encoder.take().map_or(Ok(Vec::new()), |encoder| encoder?.finish())
                    }
                },
            };
            return Poll::Ready(Some(match compressed {
                Ok(compressed) => Ok(Frame::data(compressed.into())),
                Err(error) => {
                    self.encoder = None;
                    Err(BodyError::Coding(error))
                }
            }));
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}
