use std::sync::Mutex;

use tokio::sync::oneshot;

use super::*;
use crate::policy::CacheKey;
use crate::purge::{LoosePath, Mark, Stamp, Target, TargetId, Validity};
use crate::store::{Figures, Fill, Found, Recall, Waiting};
use crate::stored_response::Stored;

/// A store that takes a purge when it is let.
struct Slow(Mutex<Option<oneshot::Receiver<Taken>>>);

impl Store for Slow {
    fn recall(&self, _: &CacheKey) -> Recall {
        unreachable!("purging reads no responses")
    }

    fn recall_here(&self, _: &CacheKey) -> Option<Found> {
        unreachable!("purging reads no responses")
    }

    fn permit(&self, _: &CacheKey) -> Fill {
        unreachable!("purging stores no responses")
    }

    fn judge(&self, _: &Stamp, _: &[TargetId]) -> Validity {
        unreachable!("purging judges no responses")
    }

    fn insert(&self, _: Fill, _: Stored) -> Waiting<Result<(), StoreError>> {
        unreachable!("purging stores no responses")
    }

    fn purge(&self, _: Purge) -> Waiting<Result<Position, StoreError>> {
        let let_go = self.0.lock().unwrap().take().expect("one purge");
        Box::pin(async { let_go.await.expect("let go") })
    }

    fn mark(&self, _mark: Mark) -> Waiting<Result<(), StoreError>> {
        unreachable!("nothing is written here")
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}

type Taken = Result<Position, StoreError>;

fn slow() -> (Arc<dyn Store>, Arc<Metrics>, oneshot::Sender<Taken>) {
    let (let_go, waits) = oneshot::channel();
    (Arc::new(Slow(Mutex::new(Some(waits)))), Arc::default(), let_go)
}

fn of_a_tag() -> Purge {
    Purge::hard(vec![Target::tag("a")])
}

#[tokio::test]
async fn a_purge_is_counted_when_it_is_acknowledged_and_not_when_it_is_not() {
    for (result, line) in [
        (Ok(Position(7)), "larder_purges_total{source=\"admin\"} 1"),
        (Err(StoreError::PurgeNotTaken("away".into())), "larder_purges_failed_total{source=\"admin\"} 1"),
    ] {
        let (store, metrics, let_go) = slow();
        let expected = result.as_ref().ok().copied();
        let_go.send(result).unwrap();
        let purged = purge(&store, &metrics, of_a_tag(), PurgeSource::Admin, None).await;
        assert_eq!(purged.ok(), expected);
        let text = metrics.render(&store.figures(), None);
        assert!(text.lines().any(|written| written == line), "{text}");
    }
}

#[tokio::test]
async fn a_purge_that_nobody_waits_for_any_more_is_finished() {
    let (store, metrics, let_go) = slow();
    let mut purging = Box::pin(purge(&store, &metrics, of_a_tag(), PurgeSource::Write, None));
    // It begins, and then whoever asked goes away.
    assert!(poll_once(&mut purging).is_none());
    drop(purging);
    tokio::task::yield_now().await;
    // What was dropped took the waiting end with it, had the purge ended there.
    let_go.send(Ok(Position(7))).expect("the purge goes on");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let text = metrics.render(&Figures::default(), None);
    assert!(text.contains("larder_purges_total{source=\"write\"} 1"), "{text}");
}

/// Polls once.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn the_log_names_targets_up_to_a_bound() {
    let path = LoosePath::new("/p");
    for (target, expected) in [
        (Target::tag("a\nb"), "tag a\nb"),
        (Target::Path { host: None, path: path.clone() }, "path /p"),
        (Target::Path { host: Some("h".into()), path: path.clone() }, "path h/p"),
        (Target::Url { host: None, path: path.clone(), query: "q=1".into() }, "url /p?q=1"),
        (Target::Prefix { host: None, path }, "prefix /p"),
        (Target::Everything, "everything"),
    ] {
        assert_eq!(target.to_string(), expected);
    }
    let line = Line::of(&Purge::hard(vec![Target::Everything; 50]), PurgeSource::Admin, None);
    assert_eq!((line.targets, line.named.len()), (50, 20));
}
