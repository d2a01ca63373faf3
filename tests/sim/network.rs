//! The simulated Redis server, and the way to it: commands and replies are delayed, lost, reordered and repeated.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use larder::store::{ChannelMessage, ConnectionEvent, RedisConnection};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{Connection, Link};
use crate::dice::Dice;
use crate::process::{nanos, trace};
use crate::redis::{Database, Reply};

/// The server's clock when a simulation begins, in microseconds since 1970.
pub const START: u64 = 1_800_000_000_000_000;

pub struct Network {
    pub server: Mutex<Server>,
    /// A former primary that goes on, and the way that still leads to it.
    former: Mutex<Option<(Arc<Path>, Server)>>,
    /// The server can do something again.
    resumed: Notify,
    links: Mutex<Vec<Weak<Link>>>,
}

#[derive(Default)]
pub struct Server {
    pub database: Database,
    /// Microseconds by which its clock was set forward.
    pub ahead: i64,
    pub is_down: bool,
    /// It takes commands, and runs them later.
    pub is_hung: bool,
    commands: u64,
}

/// The way between one replica and the server, in whatever process the replica is.
pub struct Path {
    pub weather: Mutex<Weather>,
    dice: Mutex<Dice>,
}

/// The conditions on the way of commands, replies and messages.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Longest delay in each direction, in milliseconds.
    pub delay: u64,
    /// Connections are refused.
    pub is_cut: bool,
    /// Everything is lost without a word.
    pub is_silent: bool,
    /// One command of so many is lost, and one reply; zero: none.
    pub loss: u64,
    pub reorders: bool,
    /// One command of so many runs a second time, up to a second later; zero: none.
    pub repeats: u64,
    pub loses_messages: bool,
}

/// The fate of one command.
struct Fate {
    there: Duration,
    back: Duration,
    is_lost: bool,
    is_reply_lost: bool,
    repeated_after: Option<Duration>,
    /// Whether it runs although its connection was lost on the way.
    survives: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: 2,
            is_cut: false,
            is_silent: false,
            loss: 0,
            reorders: false,
            repeats: 0,
            loses_messages: false,
        }
    }
}

impl Path {
    pub fn new(dice: Dice) -> Arc<Self> {
        Arc::new(Self { weather: Mutex::default(), dice: Mutex::new(dice) })
    }

    pub fn delay(&self) -> Duration {
        self.dice.lock().millis(0, self.weather.lock().delay + 1)
    }

    fn fate(&self) -> Fate {
        let (weather, mut dice) = (self.weather.lock().clone(), self.dice.lock());
        let mut hits = |rate: u64| rate > 0 && dice.one_in(rate);
        let (is_lost, is_reply_lost, repeats) =
            (hits(weather.loss), hits(weather.loss), hits(weather.repeats));
        Fate {
            there: dice.millis(0, weather.delay + 1),
            back: dice.millis(0, weather.delay + 1),
            is_lost: is_lost || weather.is_silent,
            is_reply_lost,
            repeated_after: repeats.then(|| dice.millis(0, 1000)),
            survives: dice.one_in(2),
        }
    }
}

impl Network {
    pub fn new() -> Arc<Self> {
        let network = Self {
            server: Mutex::default(),
            former: Mutex::default(),
            resumed: Notify::new(),
            links: Mutex::default(),
        };
        network.server.lock().database.run_id = 1;
        Arc::new(network)
    }

    pub fn connection(self: &Arc<Self>, path: &Arc<Path>) -> Arc<dyn RedisConnection> {
        let link = Link::new(self, path);
        self.links.lock().push(Arc::downgrade(&link));
        Arc::new(Connection(link))
    }

    /// Ends what refers to itself.
    pub fn end(&self) {
        self.links.lock().clear();
    }

    /// Loses the connections on `path`, or all.
    pub fn reset(&self, path: Option<&Arc<Path>>) {
        for link in self.links() {
            if path.is_none_or(|path| Arc::ptr_eq(path, &link.path)) {
                link.lose();
            }
        }
    }

    /// Changes the server, and lets it go on.
    pub fn change<T>(&self, change: impl FnOnce(&mut Server) -> T) -> T {
        let result = change(&mut self.server.lock());
        self.resumed.notify_waiters();
        result
    }

    /// Another server becomes the primary. The former one goes on for the replica at the end of `path`; it knows that it is
    /// cut off, and refuses writes.
    pub fn split(&self, path: &Arc<Path>) {
        self.heal();
        self.change(|server| {
            let mut former = Server { commands: server.commands, ahead: server.ahead, ..Server::default() };
            former.database = server.database.clone();
            former.database.is_cut_off = true;
            server.replace(server.database.clone());
            *self.former.lock() = Some((path.clone(), former));
        });
        for link in self.links().iter().filter(|link| !Arc::ptr_eq(path, &link.path)) {
            link.lose();
        }
    }

    /// Ends the former primary.
    pub fn heal(&self) {
        let former = self.former.lock().take();
        if let Some((path, _)) = former {
            self.reset(Some(&path));
        }
    }

    /// Whether the path leads to the former primary.
    fn leads_to_former(&self, path: &Arc<Path>) -> bool {
        self.former.lock().as_ref().is_some_and(|(its, _)| Arc::ptr_eq(its, path))
    }

    /// Calls `action` with the server that the path leads to.
    fn with_server<T>(&self, path: &Arc<Path>, action: impl FnOnce(&mut Server) -> T) -> T {
        match &mut *self.former.lock() {
            Some((its, former)) if Arc::ptr_eq(its, path) => action(former),
            _ => action(&mut self.server.lock()),
        }
    }

    /// Runs a command of somebody who is not larder. `None`: the server can't be reached.
    pub fn run_for_others(&self, words: &[&str]) -> Option<Reply> {
        let words: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let mut server = self.server.lock();
        (!server.is_down && !server.is_hung).then(|| server.run(&words))
    }

    /// How long it takes to connect, and whether it succeeds.
    pub fn try_connect(&self, path: &Arc<Path>) -> (Duration, bool) {
        const TIMEOUT: Duration = Duration::from_millis(500);
        let (is_down, is_hung) = self.with_server(path, |server| (server.is_down, server.is_hung));
        let weather = path.weather.lock().clone();
        match (is_down || weather.is_cut, is_hung || weather.is_silent) {
            (true, _) => (path.delay(), false),
            (_, true) => (TIMEOUT, false),
            _ => (path.delay(), true),
        }
    }

    /// Sends a command. `None`, or no answer at all: its reply is lost.
    pub async fn exchange(self: Arc<Self>, link: Arc<Link>, epoch: u64, words: Vec<Bytes>) -> Option<Reply> {
        let fate = link.path.fate();
        let at = link.arrival(Instant::now() + fate.there);
        sleep_until(at).await;
        if fate.is_lost || (!link.has_epoch(epoch) && !fate.survives) {
            return None;
        }
        let reply = self.run(&link.path, &words).await?;
        if let Some(after) = fate.repeated_after {
            let (network, path) = (self.clone(), link.path.clone());
            tokio::spawn(async move {
                sleep(after).await;
                network.run(&path, &words).await;
            });
        }
        sleep(fate.back).await;
        (!fate.is_reply_lost && !link.path.weather.lock().is_silent).then_some(reply)
    }

    /// Runs a command once the server can. `None`: it is down.
    async fn run(self: &Arc<Self>, path: &Arc<Path>, words: &[Bytes]) -> Option<Reply> {
        loop {
            let resumed = self.resumed.notified();
            let ran = self.with_server(path, |server| match (server.is_down, server.is_hung) {
                (true, _) => Some(None),
                (_, true) => None,
                _ => Some(Some((server.run(words), std::mem::take(&mut server.database.published)))),
            });
            if let Some(ran) = ran {
                let (reply, messages) = ran?;
                messages.into_iter().for_each(|(channel, text)| self.publish(path, &channel, &text));
                return Some(reply);
            }
            resumed.await;
        }
    }

    /// Tells the subscribers of the server that `path` leads to.
    fn publish(&self, path: &Arc<Path>, channel: &Bytes, text: &Bytes) {
        let is_former = self.leads_to_former(path);
        for link in self.links() {
            if self.leads_to_former(&link.path) != is_former {
                continue;
            }
            let Some(epoch) = link.subscription(channel) else { continue };
            if link.path.weather.lock().loses_messages {
                continue;
            }
            let message = ChannelMessage { channel: channel.clone(), content: text.clone() };
            let delay = link.path.delay();
            tokio::spawn(async move {
                sleep(delay).await;
                if link.has_epoch(epoch) && !link.path.weather.lock().is_silent {
                    link.tell(ConnectionEvent::Message(Some(message)));
                }
            });
        }
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.lock();
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Server {
    /// No two commands run at the same microsecond.
    fn run(&mut self, words: &[Bytes]) -> Reply {
        self.commands += 1;
        let micros = nanos() / 1000 + self.commands % 1000;
        self.database.now = (START + micros).saturating_add_signed(self.ahead);
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        trace(hasher.finish());
        self.database.command(words)
    }

    /// Another server takes its place, or the same one after a restart.
    pub fn replace(&mut self, database: Database) {
        let former = self.database.run_id;
        self.database = database;
        (self.database.run_id, self.database.former_id) = (former + 1, former);
    }
}
