//! HEARS: sources of change events, from a Redis stream, a Redis channel or a signed request; what each event names is
//! purged, as any purge is. What may have been missed is purged with all that it could have named.
//!
//! It never sees a client's request, and knows nothing of responses.

mod channel;
mod fallback;
mod stream;
pub mod webhook;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::{EventKind, EventSource};
use crate::metrics::{Metrics, Patience, PurgeSource, SourceFigures};
use crate::policy::Route;
use crate::policy::content::Content;
use crate::policy::event::Meaning;
use crate::policy::routes::Routes;
use crate::purge::{Purge, Target, Why};
use crate::purging;
use crate::store::sources::{Known, Word};
use crate::store::{Feed, Store, StoreError};
pub use fallback::Fallbacks;
use webhook::Webhooks;

/// So many events at most are purged together.
const BATCH: usize = 100;

/// All sources of one larder.
#[derive(Default)]
pub struct Events {
    sources: Vec<Arc<Source>>,
    webhooks: Webhooks,
    /// Tells the sources to stop.
    stop: watch::Sender<bool>,
    running: Mutex<JoinSet<()>>,
}

/// One source, and where what it says goes.
struct Source {
    settings: EventSource,
    figures: Arc<SourceFigures>,
    feed: Option<Feed>,
    /// What this process is called among those that may read it.
    reader: String,
    hub: Arc<Hub>,
}

struct Hub {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// Those of the configuration in use.
    routes: ArcSwap<Routes>,
    clock: Clock,
}

impl Events {
    /// # Errors
    /// If a source's files for TLS can't be read.
    pub fn new(
        sources: &[EventSource],
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        routes: Arc<Routes>,
        clock: Clock,
    ) -> io::Result<Arc<Self>> {
        let hub = Arc::new(Hub { store, metrics, routes: ArcSwap::new(routes), clock });
        let sources: Vec<Arc<Source>> = sources
            .iter()
            .map(|settings| Source::new(settings, &hub).map(Arc::new))
            .collect::<io::Result<_>>()?;
        let webhooks = Webhooks::of(&sources);
        Ok(Arc::new(Self { sources, webhooks, stop: watch::Sender::new(false), running: Mutex::default() }))
    }

    /// Begins to listen. Needs a runtime, which the sources then live on.
    pub async fn start(&self) {
        let mut running = self.running.lock().await;
        for source in &self.sources {
            let (source, stopping) = (source.clone(), self.stop.subscribe());
            running.spawn(async move {
                match source.settings.kind {
                    EventKind::Stream { .. } => stream::follow(&source, stopping).await,
                    EventKind::PubSub { .. } => channel::follow(&source, stopping).await,
                    EventKind::Webhook(_) => webhook::watch(&source, stopping).await,
                }
            });
        }
    }

    /// Lets them end what they are at, and give up their turn: another replica goes on at once.
    pub async fn stop(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.stop.send_replace(true);
        let mut running = self.running.lock().await;
        if timeout(PATIENCE, async { while running.join_next().await.is_some() {} }).await.is_err() {
            running.abort_all();
        }
    }

    /// Those of another configuration.
    pub fn use_routes(&self, routes: Arc<Routes>) {
        for source in &self.sources {
            source.hub.routes.store(routes.clone());
        }
    }

    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// What the silence of sources means for each of the routes.
    pub fn fallbacks<'r>(&self, routes: impl IntoIterator<Item = &'r Arc<Route>>) -> Fallbacks {
        Fallbacks::of(&self.sources, routes)
    }
}

impl Source {
    fn new(settings: &EventSource, hub: &Arc<Hub>) -> io::Result<Self> {
        let patience = settings
            .silence
            .map(|silence| Patience { lasts: silence.after, for_events: silence.without_event });
        let feed = match &settings.kind {
            EventKind::Stream { redis, .. } | EventKind::PubSub { redis, .. } => Some(Feed::new(redis)?),
            EventKind::Webhook(_) => None,
        };
        let mut reader = [0; 16];
        getrandom::fill(&mut reader).map_err(io::Error::other)?;
        Ok(Self {
            figures: hub.metrics.watch_source(&settings.name, settings.kind.as_str(), patience),
            feed,
            reader: format!("{:032x}", u128::from_le_bytes(reader)),
            hub: hub.clone(),
            settings: settings.clone(),
        })
    }

    /// What an event purges is added to `targets`. `None`: it can't be read.
    fn apply(&self, event: Option<&Content>, targets: &mut Vec<Target>) -> Meaning {
        self.settings.rule.apply(&self.hub.routes.load(), event, targets)
    }

    /// All that its events could name is purged: some may have been missed.
    async fn purge_everything(&self, why: &str) -> Result<(), StoreError> {
        let mut targets = Vec::new();
        self.settings.rule.add_everything(&self.hub.routes.load(), &mut targets);
        self.purge(targets).await?;
        self.figures.missed();
        tracing::info!(
            source = self.settings.name,
            why,
            "events may have been missed: what they could name is purged"
        );
        Ok(())
    }

    async fn purge(&self, mut targets: Vec<Target>) -> Result<(), StoreError> {
        let mut seen = std::collections::HashSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        if targets.is_empty() {
            return Ok(());
        }
        let why = Why { from: Some(self.settings.name.clone()), ..Why::default() };
        let purge = Purge { why: Some(why), ..Purge::hard(targets) };
        purging::purge(&self.hub.store, &self.hub.metrics, purge, PurgeSource::Event, None).await.map(drop)
    }

    fn word(&self) -> Word {
        Word { source: self.settings.name.clone(), reader: self.reader.clone(), ..Word::default() }
    }

    async fn tell(&self, word: Word) -> Result<Known, StoreError> {
        self.hub.store.tell_of_source(word).await
    }

    /// What was known of it before this process began.
    async fn learn(&self) {
        const PAUSE: Duration = Duration::from_secs(1);
        loop {
            match self.tell(self.word()).await {
                Ok(known) => return self.figures.heard_before(known.contact_ago, known.event_ago),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Says in the log what is new of its trouble.
    fn trouble(&self, reason: &str) {
        if self.figures.trouble(reason) {
            tracing::warn!(source = self.settings.name, reason, "a source of change events can't be heard");
        }
    }
}
