//! Consumers of change events, from a Redis stream, a channel of Redis or PostgreSQL, or a webhook: each event purges the
//! targets it names. After a possible gap, everything the events could have named is purged.
//!
//! This module knows neither clients' requests nor responses.

mod channel;
mod fallback;
pub(crate) mod postgres;
mod signature;
mod stream;
pub(crate) mod webhook;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cdn::CdnRelay;
use crate::clock::Clock;
use crate::config::{ChannelName, EventKind, EventSource};
use crate::hex;
use crate::metrics::{Metrics, PurgeSource, SilenceLimit, SourceMetrics};
use crate::policy::Route;
use crate::policy::event::{ChangeEvent, EventOutcome, EventTargets};
use crate::policy::purge_targets::PurgeTargets;
use crate::policy::routes::Routes;
use crate::purge::PurgeCause;
use crate::purging::{PurgeContext, PurgeThrottle, Purged, Purger, purge_targets};
use crate::random::random_token;
use crate::store::remote_status::FailureReason;
use crate::store::sources::{SourceState, SourceUpdate};
use crate::store::{ChannelEvent, RedisEventSource, Store, StoreError};
use crate::tasks::{end_within, spawn};
pub(crate) use fallback::FallbackTtls;
use postgres::PostgresListener;
use webhook::Webhooks;

/// Maximum number of events purged together.
const MAX_BATCH: usize = 100;

/// All configured sources.
#[derive(Default)]
pub struct EventSources {
    sources: Vec<Arc<SourceConsumer>>,
    webhooks: Webhooks,
    throttle: Arc<PurgeThrottle>,
    cdn: Arc<CdnRelay>,
    /// Tells the consumers to stop.
    stop: watch::Sender<bool>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

/// One source, and the store its events are applied to.
struct SourceConsumer {
    settings: EventSource,
    metrics: Arc<SourceMetrics>,
    feed: Feed,
    /// Identifies this process among the source's possible readers.
    reader_id: String,
    /// Names the shared state. Streams and channels are read for each mapping of events by itself: during a rolling
    /// deployment the former mapping may ignore what the new one purges by.
    state_name: String,
    context: Arc<ConsumerContext>,
}

/// Where the events of a source come from.
#[derive(Clone)]
enum Feed {
    Stream(RedisEventSource),
    Channel(RedisEventSource, ChannelName),
    Notify(Arc<PostgresListener>),
    /// Requests bring them.
    Webhook,
}

impl Feed {
    fn new(kind: &EventKind) -> io::Result<Self> {
        Ok(match kind {
            EventKind::Stream { redis, .. } => Self::Stream(RedisEventSource::new(redis)?),
            EventKind::PubSub { redis, channel } => {
                Self::Channel(RedisEventSource::new(redis)?, channel.clone())
            }
            EventKind::Notify { postgres, channels } => {
                Self::Notify(Arc::new(PostgresListener::new(postgres, channels)?))
            }
            EventKind::Webhook(_) => Self::Webhook,
        })
    }

    /// Runs one subscription until it ends, and tells what is heard.
    ///
    /// # Errors
    /// The reason of the end.
    async fn run_subscription(&self, tell: &mpsc::Sender<ChannelEvent>) -> Result<Infallible, FailureReason> {
        match self {
            Self::Channel(redis, channel) => redis.run_subscription(channel, tell).await,
            Self::Notify(postgres) => postgres.run_subscription(tell).await,
            Self::Stream(_) | Self::Webhook => {
                Err(FailureReason::new("no-channel", "the source has no channel"))
            }
        }
    }
}

struct ConsumerContext {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// Routes of the configuration in use.
    routes: ArcSwap<Routes>,
    clock: Clock,
    throttle: Arc<PurgeThrottle>,
    cdn: Arc<CdnRelay>,
}

impl ConsumerContext {
    fn purger(&self, routes: Arc<Routes>) -> Purger {
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        Purger { store, metrics, routes, cdn: self.cdn.clone() }
    }
}

impl EventSources {
    /// # Errors
    /// If a source's TLS files cannot be read.
    pub fn new(
        sources: &[EventSource],
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        routes: Arc<Routes>,
        clock: Clock,
    ) -> io::Result<Arc<Self>> {
        Self::with_cdn(sources, (store, Arc::default()), metrics, routes, clock)
    }

    /// The same, and purges are relayed to the caches in front.
    ///
    /// # Errors
    /// See [`EventSources::new`].
    pub(crate) fn with_cdn(
        sources: &[EventSource],
        (store, cdn): (Arc<dyn Store>, Arc<CdnRelay>),
        metrics: Arc<Metrics>,
        routes: Arc<Routes>,
        clock: Clock,
    ) -> io::Result<Arc<Self>> {
        let throttle = Arc::new(PurgeThrottle::new(clock.clone()));
        let (routes, shared) = (ArcSwap::new(routes), throttle.clone());
        let relay = cdn.clone();
        let context =
            Arc::new(ConsumerContext { store, metrics, routes, clock, throttle: shared, cdn: relay });
        let sources: Vec<Arc<SourceConsumer>> = sources
            .iter()
            .map(|settings| SourceConsumer::new(settings, &context).map(Arc::new))
            .collect::<io::Result<_>>()?;
        let webhooks = Webhooks::new(&sources);
        Ok(Arc::new(Self {
            sources,
            webhooks,
            throttle,
            cdn,
            stop: watch::Sender::new(false),
            running: Mutex::default(),
        }))
    }

    /// The windows of `at_most_every`, which writes and events share.
    pub(crate) fn throttle(&self) -> &Arc<PurgeThrottle> {
        &self.throttle
    }

    /// The caches in front, to which writes and events are relayed alike.
    pub(crate) fn cdn(&self) -> &Arc<CdnRelay> {
        &self.cdn
    }

    /// Spawns the consumers on the current runtime.
    pub fn start(&self) {
        let consumers = self.sources.iter().map(|source| {
            let (source, stopping) = (source.clone(), self.stop.subscribe());
            spawn(async move {
                match source.settings.kind {
                    EventKind::Stream { .. } => stream::run(&source, stopping).await,
                    EventKind::PubSub { .. } | EventKind::Notify { .. } => {
                        channel::run(&source, stopping).await;
                    }
                    EventKind::Webhook(_) => webhook::watch_silence(&source, stopping).await,
                }
            })
        });
        self.running.lock().extend(consumers);
    }

    /// Stops the consumers and gives up reader leases, so that another replica continues at once.
    pub async fn stop(&self) {
        const STOP_TIMEOUT: Duration = Duration::from_secs(1);
        self.stop.send_replace(true);
        let running = std::mem::take(&mut *self.running.lock());
        end_within(running, STOP_TIMEOUT).await;
    }

    /// Replaces the routes after a configuration change. Those of a file with other `events` belong to templates that
    /// need a restart: until then the former templates go with the former routes, and each event purges what is stored
    /// under the new ones.
    pub(crate) fn use_routes(&self, routes: Arc<Routes>) {
        for source in &self.sources {
            source.context.routes.store(routes.clone());
        }
    }

    /// Replaces the secrets of webhooks after a configuration change; `sources` differ from the present ones in nothing else.
    pub(crate) fn use_secrets(&self, sources: &[EventSource]) {
        sources.iter().for_each(|source| self.webhooks.use_secrets(source));
    }

    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// Builds the fallback lifetimes of `routes`.
    pub(crate) fn fallbacks<'r>(&self, routes: impl IntoIterator<Item = &'r Arc<Route>>) -> FallbackTtls {
        FallbackTtls::new(&self.sources, routes)
    }
}

impl SourceConsumer {
    fn new(settings: &EventSource, context: &Arc<ConsumerContext>) -> io::Result<Self> {
        let patience = settings
            .silence
            .map(|silence| SilenceLimit { after: silence.after, for_events: silence.without_event });
        let feed = Feed::new(&settings.kind)?;
        Ok(Self {
            metrics: context.metrics.register_source(&settings.name, settings.kind.as_str(), patience),
            feed,
            reader_id: random_token()?,
            state_name: match &settings.kind {
                EventKind::Stream { .. } => format!("{}:{}", settings.name, hash_text(&settings.rules)),
                // One that listens elsewhere hears something else.
                EventKind::PubSub { redis, channel } => {
                    let heard = (&settings.rules, &redis.servers, channel);
                    format!("{}:{}", settings.name, hash_text(&heard))
                }
                EventKind::Notify { postgres, channels } => {
                    let heard = (&settings.rules, &postgres.server, &postgres.database, channels);
                    format!("{}:{}", settings.name, hash_text(&heard))
                }
                EventKind::Webhook(_) => settings.name.clone(),
            },
            context: context.clone(),
            settings: settings.clone(),
        })
    }

    /// Adds an event's targets to `targets`; an unreadable event purges everything its source covers. They are purged by
    /// the same `routes`: the purge says by which rules its targets were rendered.
    fn collect_targets(
        &self,
        routes: &Routes,
        event: ChangeEvent<'_>,
        targets: &mut EventTargets,
    ) -> EventOutcome {
        self.settings.rules.apply_event(routes, event, targets)
    }

    /// The routes in use.
    fn routes(&self) -> Arc<Routes> {
        self.context.routes.load_full()
    }

    /// Purges everything the source's events could name, after a possible gap.
    async fn purge_everything(&self, why: &str) -> Result<(), StoreError> {
        let (routes, mut targets) = (self.routes(), PurgeTargets::default());
        self.settings.rules.add_all_reachable(&routes, &mut targets);
        self.purge(routes, EventTargets { targets, ..EventTargets::default() }).await?;
        self.metrics.record_missed();
        tracing::info!(
            source = self.settings.name,
            why,
            "possible event gap: purged everything the source covers"
        );
        Ok(())
    }

    async fn purge(&self, routes: Arc<Routes>, found: EventTargets) -> Result<Purged, StoreError> {
        let (mut purged, mut outcome) = (Purged::default(), Ok(()));
        for (targets, relayed) in [(found.relayed, true), (found.targets, false)] {
            let context = PurgeContext {
                purger: self.context.purger(routes.clone()),
                source: PurgeSource::Event,
                route: None,
                cause: PurgeCause {
                    from: Some(self.settings.name.clone()),
                    relayed,
                    ..PurgeCause::default()
                },
                settle: Duration::ZERO,
            };
            match purge_targets(&context, targets, None, &self.context.throttle).await {
                Ok(these) => {
                    purged.version = these.version.or(purged.version);
                    purged.waits |= these.waits;
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.map(|()| purged)
    }

    fn new_update(&self) -> SourceUpdate {
        SourceUpdate {
            source: self.state_name.clone(),
            reader: self.reader_id.clone(),
            ..SourceUpdate::default()
        }
    }

    async fn update_source(&self, update: SourceUpdate) -> Result<SourceState, StoreError> {
        self.context.store.update_source(update).await
    }

    /// Restores what other replicas recorded before this process started.
    async fn restore_state(&self) {
        const RETRY_INTERVAL: Duration = Duration::from_secs(1);
        loop {
            match self.update_source(self.new_update()).await {
                Ok(recorded) => return self.metrics.restore_heard(recorded.contact_ago, recorded.event_ago),
                Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    }

    /// Logs the reason of a failure when it changes.
    fn report_error(&self, reason: &FailureReason) {
        if self.metrics.set_error(reason) {
            let FailureReason { code, message } = reason;
            tracing::warn!(source = self.settings.name, code, reason = message, "event source unavailable");
        }
    }
}

/// A short hash of what events of the source purge.
fn hash_text(settings: &impl std::fmt::Debug) -> String {
    hex::encode(&Sha256::digest(format!("{settings:?}"))[..8])
}
