//! Simulated connections, as larder sees them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::store::{
    Admission, BoxFuture, ConnectionEvent, ConnectionEvents, RedisConnection, RedisError, RedisRequest,
    RespValue, SendOptions,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::network::{Network, Path};
use crate::redis::{Reply, lua};

/// Between attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(60);

/// Between looks of a read that blocks.
const BLOCKED_READ_INTERVAL: Duration = Duration::from_millis(30);

/// For a command without a deadline of its own.
const USUAL_TIMEOUT: Duration = Duration::from_millis(50);

pub struct Connection(pub Arc<Link>);

/// One client of the server.
pub struct Link {
    pub path: Arc<Path>,
    network: Arc<Network>,
    state: Mutex<LinkState>,
    changed: Notify,
}

#[derive(Default)]
struct LinkState {
    /// How often it was connected.
    epoch: u64,
    is_connected: bool,
    channels: Vec<String>,
    inbox: VecDeque<ConnectionEvent>,
    last_arrival: Option<Instant>,
}

impl Link {
    pub fn new(network: &Arc<Network>, path: &Arc<Path>) -> Arc<Self> {
        let (network, path) = (network.clone(), path.clone());
        Arc::new(Self { path, network, state: Mutex::default(), changed: Notify::new() })
    }

    pub fn has_epoch(&self, epoch: u64) -> bool {
        let state = self.state.lock();
        state.is_connected && state.epoch == epoch
    }

    /// When a command arrives that could at `at`: after those before it, unless the way reorders.
    pub fn arrival(&self, at: Instant) -> Instant {
        let mut state = self.state.lock();
        let at = match state.last_arrival {
            Some(last) if !self.path.weather.lock().reorders => at.max(last),
            _ => at,
        };
        state.last_arrival = Some(at);
        at
    }

    /// The epoch in which it is subscribed to `channel`.
    pub fn subscription(&self, channel: &[u8]) -> Option<u64> {
        let state = self.state.lock();
        let is_subscribed = state.channels.iter().any(|name| name.as_bytes() == channel);
        (state.is_connected && is_subscribed).then_some(state.epoch)
    }

    pub fn tell(&self, event: ConnectionEvent) {
        self.state.lock().inbox.push_back(event);
        self.changed.notify_waiters();
    }

    pub fn lose(&self) {
        let was_connected = self.close();
        if was_connected {
            self.tell(ConnectionEvent::Failed(Some(lost())));
        }
    }

    fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.channels.clear();
        let was_connected = std::mem::take(&mut state.is_connected);
        drop(state);
        self.changed.notify_waiters();
        was_connected
    }

    /// Waits until `find` finds something in the state.
    async fn wait_for<T>(&self, mut find: impl FnMut(&mut LinkState) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = find(&mut self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }

    async fn send(
        self: Arc<Self>,
        request: RedisRequest,
        options: SendOptions,
    ) -> Result<RespValue, RedisError> {
        if let Some(reply) = answer_at_once(&request) {
            return reply.into_result();
        }
        let end = Instant::now() + options.timeout;
        let epoch = |state: &mut LinkState| state.is_connected.then_some(state.epoch);
        let epoch = match options.admission {
            Admission::IfHealthy => epoch(&mut self.state.lock()).ok_or_else(lost)?,
            Admission::Probe => tokio::select! {
                biased;
                epoch = self.wait_for(epoch) => epoch,
                () = sleep_until(end) => return Err(RedisError::TimedOut),
            },
        };
        let words = [Bytes::from_static(request.name.as_bytes())].into_iter().chain(request.args).collect();
        let exchange = self.clone().exchange(epoch, words, request.blocks.then_some(options.timeout));
        let mut exchange = tokio::spawn(exchange);
        let reply = async {
            match (&mut exchange).await {
                Ok(Some(reply)) => reply,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = reply => reply.into_result(),
            () = self.wait_for(|state| (!state.is_connected || state.epoch != epoch).then_some(())) => Err(lost()),
            () = sleep_until(end) => Err(RedisError::TimedOut),
        }
    }

    /// Sends a command. One that blocks is repeated until it has an answer, for half of its deadline.
    async fn exchange(
        self: Arc<Self>,
        epoch: u64,
        words: Vec<Bytes>,
        blocks_for: Option<Duration>,
    ) -> Option<Reply> {
        let began = Instant::now();
        loop {
            let reply = self.network.clone().exchange(self.clone(), epoch, words.clone()).await?;
            let may_wait = blocks_for.is_some_and(|timeout| began.elapsed() < timeout / 2);
            if reply != Reply::Nil || !may_wait {
                return Some(reply);
            }
            sleep(BLOCKED_READ_INTERVAL).await;
        }
    }
}

/// Scripts are loaded without a command on the way: whether another simulation has loaded them must make no difference.
fn answer_at_once(request: &RedisRequest) -> Option<Reply> {
    match request.name {
        "SCRIPT" => Some(Reply::Bulk(lua::load(&request.args[1]))),
        "EVALSHA" if !lua::is_loaded(&request.args[0]) => Some(Reply::Error("NOSCRIPT".to_owned())),
        _ => None,
    }
}

impl RedisConnection for Connection {
    fn open(&self) -> Box<dyn ConnectionEvents> {
        Box::new(Events { link: self.0.clone(), attempt: None })
    }

    fn send(&self, request: RedisRequest, options: SendOptions) -> BoxFuture<Result<RespValue, RedisError>> {
        Box::pin(self.0.clone().send(request, options))
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<Result<(), RedisError>> {
        let (link, channel, ping) = (self.0.clone(), channel.to_owned(), self.ping());
        Box::pin(async move {
            ping.await?;
            link.state.lock().channels.push(channel);
            Ok(())
        })
    }

    /// No simulated store does.
    fn subscribe_pattern(&self, pattern: &str) -> BoxFuture<Result<(), RedisError>> {
        self.subscribe(pattern)
    }

    fn ping(&self) -> BoxFuture<Result<(), RedisError>> {
        let options = SendOptions { admission: Admission::Probe, asking: false, timeout: USUAL_TIMEOUT };
        let pinged = self.send(RedisRequest::with_args("PING", &[]), options);
        Box::pin(async move { pinged.await.map(drop) })
    }
}

struct Events {
    link: Arc<Link>,
    /// When the attempt to connect under way ends, and whether it succeeds.
    attempt: Option<(Instant, bool)>,
}

impl Events {
    async fn next_event(&mut self) -> ConnectionEvent {
        let link = self.link.clone();
        let told = |state: &mut LinkState| match state.inbox.pop_front() {
            Some(event) => Some(Some(event)),
            None => (!state.is_connected).then_some(None),
        };
        if let Some(event) = link.wait_for(told).await {
            return event;
        }
        let (end, succeeds) = *self.attempt.get_or_insert_with(|| {
            let (takes, succeeds) = link.network.try_connect(&link.path);
            (Instant::now() + takes + RECONNECT_DELAY * u32::from(!succeeds), succeeds)
        });
        sleep_until(end).await;
        self.attempt = None;
        if !succeeds || !link.network.try_connect(&link.path).1 {
            return ConnectionEvent::Failed(Some(lost()));
        }
        let mut state = link.state.lock();
        (state.is_connected, state.epoch) = (true, state.epoch + 1);
        drop(state);
        link.changed.notify_waiters();
        ConnectionEvent::Connected
    }
}

impl ConnectionEvents for Events {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + '_>> {
        Box::pin(self.next_event())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.link.close();
    }
}

fn lost() -> RedisError {
    RedisError::ConnectionLost("connection refused or reset".to_owned())
}
