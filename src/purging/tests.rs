use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;
use crate::memory_budget::MemoryBudget;
use crate::policy::CacheKey;
use crate::purge::{IntentId, NormalizedPath, PurgeIntent, ReadVersion, Target, TargetId, Validity};
use crate::store::{
    BoxFuture, FetchLocks, FetchToken, GetResult, PurgeStore, RateBudgets, ReplicaRegistry, ResponseStore,
    SourceOffsets, StoreStats, ValidEntry,
};
use crate::stored_response::StoredEntry;

/// A store that takes a purge when it is let, and counts intents.
#[derive(Default)]
struct Slow {
    purge: Mutex<Option<oneshot::Receiver<Taken>>>,
    intents: AtomicUsize,
}

impl ResponseStore for Slow {
    fn get(&self, _: &CacheKey) -> GetResult {
        unreachable!("purging reads no responses")
    }

    fn get_local(&self, _: &CacheKey) -> Option<ValidEntry> {
        unreachable!("purging reads no responses")
    }

    fn begin_fetch(&self, _: &CacheKey) -> FetchToken {
        unreachable!("purging stores no responses")
    }

    fn insert(&self, _: FetchToken, _: StoredEntry) -> BoxFuture<Result<(), StoreError>> {
        unreachable!("purging stores no responses")
    }

    fn memory_budget(&self) -> &Arc<MemoryBudget> {
        unreachable!("no bodies are held")
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

impl PurgeStore for Slow {
    fn validity(&self, _: &ReadVersion, _: &[TargetId]) -> Validity {
        unreachable!("purging judges no responses")
    }

    fn purge(&self, _: Purge) -> BoxFuture<Result<PurgeVersion, StoreError>> {
        let let_go = self.purge.lock().take().expect("one purge");
        Box::pin(async { let_go.await.expect("let go") })
    }

    fn record_intent(&self, _intent: PurgeIntent) -> BoxFuture<Result<(), StoreError>> {
        self.intents.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl ReplicaRegistry for Slow {}
impl FetchLocks for Slow {}
impl SourceOffsets for Slow {}

impl RateBudgets for Slow {}

type Taken = Result<PurgeVersion, StoreError>;

fn slow() -> (Arc<dyn Store>, Arc<Metrics>, oneshot::Sender<Taken>) {
    let (let_go, waits) = oneshot::channel();
    (Arc::new(Slow { purge: Mutex::new(Some(waits)), ..Slow::default() }), Arc::default(), let_go)
}

fn purger(store: &Arc<dyn Store>, metrics: &Arc<Metrics>) -> Purger {
    Purger { store: store.clone(), metrics: metrics.clone(), routes: Arc::default(), cdn: Arc::default() }
}

/// Its store takes one purge.
pub(super) fn context() -> PurgeContext {
    let (store, metrics, let_go) = slow();
    let_go.send(Ok(PurgeVersion(1))).expect("it waits");
    PurgeContext {
        purger: purger(&store, &metrics),
        source: PurgeSource::Write,
        route: None,
        cause: PurgeCause::default(),
        settle: Duration::ZERO,
    }
}

fn tag_purge() -> Purge {
    Purge::hard(vec![Target::tag("a")])
}

#[tokio::test]
async fn only_acknowledged_purges_are_counted() {
    for (result, line) in [
        (Ok(PurgeVersion(7)), "larder_purges_total{source=\"admin\"} 1"),
        (Err(StoreError::PurgeRejected("away".into())), "larder_purges_failed_total{source=\"admin\"} 1"),
    ] {
        let (store, metrics, let_go) = slow();
        let expected = result.as_ref().ok().copied();
        let_go.send(result).unwrap();
        let purged = purger(&store, &metrics).purge(tag_purge(), PurgeSource::Admin, None).await;
        assert_eq!(purged.ok(), expected);
        let text = metrics.snapshot().render(&store.stats(), None);
        assert!(text.lines().any(|written| written == line), "{text}");
    }
}

/// A write that began before a reload is purged as its own rules have rendered it, also when larder ends.
#[test]
fn a_purge_keeps_the_rules_that_rendered_it() {
    let (store, metrics, _let_go) = slow();
    let purger = purger(&store, &metrics);
    let former = Some(TargetId::hash_rules("former"));
    let rendered = Purge { rules: former, ..tag_purge() };
    assert_eq!(purger.find_rules(&rendered, PurgeSource::Write), former);
    assert_eq!(purger.find_rules(&tag_purge(), PurgeSource::Write), Some(purger.routes.rules()));
    assert_eq!(purger.find_rules(&tag_purge(), PurgeSource::Admin), None);
    let (host, path) = (None, NormalizedPath::new("/a"));
    let url = Purge::hard(vec![Target::Url { host, path, query: "page=1".to_owned() }]);
    assert_eq!(purger.find_rules(&url, PurgeSource::PurgeMethod), Some(purger.routes.query_rules()));
}

#[tokio::test]
async fn a_purge_that_nobody_waits_for_any_more_is_finished() {
    let (store, metrics, let_go) = slow();
    let purger = purger(&store, &metrics);
    let mut purging = Box::pin(purger.purge(tag_purge(), PurgeSource::Write, None));
    // It begins, and then whoever asked goes away.
    assert!(poll_once(&mut purging).is_none());
    drop(purging);
    tokio::task::yield_now().await;
    // Dropping the future also drops its receiver, so this fails if the purge has ended.
    let_go.send(Ok(PurgeVersion(7))).expect("the purge goes on");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let text = metrics.snapshot().render(&StoreStats::default(), None);
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

/// The process may be suspended while the write waits for its connection.
#[tokio::test]
async fn a_write_goes_on_only_under_an_intent_that_stands() {
    const LIMIT: Duration = Duration::from_millis(100);
    let store = Arc::new(Slow::default());
    let mut guard =
        IntentGuard::new(store.clone(), IntentId([1; 8]), Vec::new(), LIMIT, Duration::from_secs(1));
    guard.record().await.unwrap();
    let intents_at_polls = Mutex::new(Vec::new());
    let write = std::future::poll_fn(|_| {
        let mut polls = intents_at_polls.lock();
        polls.push(store.intents.load(Ordering::SeqCst));
        if polls.len() == 1 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    });
    let mut running = Box::pin(guard.run(write));
    assert!(poll_once(&mut running).is_none());
    std::thread::sleep(LIMIT);
    running.await.unwrap();
    let polls = intents_at_polls.lock();
    assert!(polls[1] > polls[0], "the intent was not renewed: {polls:?}");
}

#[test]
fn the_log_shows_no_credentials_of_urls() {
    let path = NormalizedPath::new("/a");
    let target = Target::Url { host: None, path, query: "access_token=s3cret&page=2".into() };
    let line = PurgeLogLine::new(&Purge::hard(vec![target]), PurgeSource::Admin, None);
    assert_eq!(line.target_names, ["url /a?access_token=***&page=2"]);
}

#[test]
fn the_log_names_targets_up_to_a_bound() {
    let path = NormalizedPath::new("/p");
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
    let line = PurgeLogLine::new(&Purge::hard(vec![Target::Everything; 50]), PurgeSource::Admin, None);
    assert_eq!((line.targets, line.target_names.len()), (50, 20));
}
