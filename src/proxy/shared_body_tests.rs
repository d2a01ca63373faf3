use http_body_util::BodyExt;
use poll_once::now_or_never;

use super::*;

/// Polls a future once.
mod poll_once {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    pub(super) fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}

fn next(reader: &mut BodyReader) -> Option<Option<Result<Bytes, SharedBodyError>>> {
    now_or_never(reader.frame()).map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
}

fn data(reader: &mut BodyReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Some(Ok(chunk))) = next(reader) {
        all.extend_from_slice(&chunk);
    }
    all
}

fn chunk(byte: u8, length: usize) -> Bytes {
    vec![byte; length].into()
}

#[test]
fn whoever_joins_late_reads_from_the_start() {
    let body = SharedBody::new(None, None);
    let mut early = body.new_reader().unwrap();
    body.append("one ".into());
    assert_eq!(data(&mut early), b"one ");
    body.append("two".into());
    let mut late = body.new_reader().unwrap();
    body.finish(Ok(None));
    assert_eq!(data(&mut early), b"two");
    assert_eq!(data(&mut late), b"one two");
    assert!(matches!(next(&mut late), Some(None)));
    assert_eq!(body.whole().unwrap(), "one two");
}

#[test]
fn a_body_that_was_cut_never_looks_whole() {
    let body = SharedBody::new(None, None);
    let mut reader = body.new_reader().unwrap();
    body.append("half".into());
    body.finish(Err(SharedBodyError::Upstream("cut".into())));
    assert!(matches!(next(&mut reader), Some(Some(Ok(_)))));
    assert!(matches!(next(&mut reader), Some(Some(Err(SharedBodyError::Upstream(_))))));
    assert!(body.new_reader().is_none(), "somebody joins half a body");
}

#[test]
fn trailers_come_last() {
    let body = SharedBody::new(None, None);
    let mut reader = body.new_reader().unwrap();
    let trailers: HeaderMap =
        [(http::header::ETAG, http::HeaderValue::from_static("\"x\""))].into_iter().collect();
    body.finish(Ok(Some(trailers.clone())));
    let frame = now_or_never(reader.frame()).unwrap().unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap(), trailers);
    assert!(matches!(next(&mut reader), Some(None)));
}

#[test]
fn past_its_bound_nobody_joins_and_only_a_window_is_kept() {
    let body = SharedBody::new(None, None);
    let (mut fast, mut slow) = (body.new_reader().unwrap(), body.new_reader().unwrap());
    body.append(chunk(1, 1000));
    body.overflow(1500);
    assert!(body.new_reader().is_none());
    assert!(body.whole().is_none());
    assert_eq!(data(&mut fast).len(), 1000);
    body.append(chunk(2, 1000));
    assert_eq!(data(&mut fast).len(), 1000);
    let kept = |body: &SharedBody| body.state().chunks.iter().map(Bytes::len).sum::<usize>();
    assert!(kept(&body) <= 1500, "{}", kept(&body));
    assert!(matches!(next(&mut slow), Some(Some(Err(SharedBodyError::TooSlow)))));
    assert!(matches!(next(&mut slow), Some(None)));
    drop(slow);
    assert_eq!(kept(&body), 0);
}

#[test]
fn the_upstream_is_read_as_fast_as_the_fastest_reader_reads() {
    let body = SharedBody::new(None, None);
    let mut reader = body.new_reader().unwrap();
    let big = usize::try_from(READ_AHEAD).unwrap();
    body.append(chunk(1, big));
    body.overflow(4 * READ_AHEAD);
    assert_eq!(now_or_never(body.wait_for_demand()), None);
    assert_eq!(data(&mut reader).len(), big);
    assert_eq!(now_or_never(body.wait_for_demand()), Some(true));
    drop(reader);
    assert_eq!(now_or_never(body.wait_for_demand()), Some(false));
}

#[test]
fn while_memory_is_short_nothing_is_read_ahead() {
    let body = SharedBody::new(None, None);
    let mut reader = body.new_reader().unwrap();
    body.append(chunk(1, 10));
    body.overflow(0);
    assert_eq!(now_or_never(body.wait_for_demand()), None);
    assert_eq!(data(&mut reader).len(), 10);
    assert_eq!(now_or_never(body.wait_for_demand()), Some(true));
}

#[test]
fn the_length_is_what_is_left_of_it() {
    let body = SharedBody::new(Some(8), None);
    let mut reader = body.new_reader().unwrap();
    body.append("12345".into());
    assert_eq!(reader.size_hint().exact(), Some(8));
    assert!(next(&mut reader).is_some());
    assert_eq!(reader.size_hint().exact(), Some(3));
}

#[test]
fn a_slow_reader_reads_on_out_of_the_whole() {
    let body = SharedBody::new(None, None);
    let mut slow = body.new_reader().unwrap();
    for part in ["one ", "two ", "", "three"] {
        body.append(part.into());
    }
    assert_eq!(next(&mut slow).flatten().unwrap().unwrap(), "one ");
    let whole = body.whole().unwrap();
    body.read_from(&whole);
    let held = whole.as_ptr_range();
    while let Some(Some(Ok(part))) = next(&mut slow) {
        assert!(part.is_empty() || held.contains(&part.as_ptr()), "{part:?}");
    }
    assert_eq!(data(&mut body.new_reader().unwrap()), b"one two three");
}

#[test]
fn what_no_reader_was_given_is_told_at_the_end() {
    for (range, read, unsent) in
        [(None, 0, Some(8)), (None, 1, Some(3)), (Some((1, 2)), 1, Some(6)), (None, 2, None)]
    {
        let told = Arc::new(Mutex::new(None));
        let teller = told.clone();
        let body = SharedBody::new(None, Some(Box::new(move |bytes| *teller.lock() = Some(bytes))));
        body.append("12345".into());
        body.append("678".into());
        body.finish(Ok(None));
        let mut reader = body.new_reader().unwrap();
        if let Some((first, last)) = range {
            reader = reader.with_range(first, last);
        }
        (0..read).for_each(|_| assert!(next(&mut reader).is_some()));
        drop((reader, body));
        assert_eq!(*told.lock(), unsent, "{range:?} {read}");
    }
}
