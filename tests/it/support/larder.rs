//! larder inside the test's process: on a thread of its own, on free ports, under a clock that the test moves.

use std::ops::Deref;
use std::time::Duration;

use ::larder::clock::{Clock, Timestamp};
use ::larder::config::{Config, Listen};
use ::larder::server::listener::{Listener, Listeners};
use tokio::sync::oneshot;

use super::{Client, Upstream, eventually, logs};

/// When every test begins: 2025-11-20T12:00:00Z.
pub const START: Timestamp = Timestamp::from_secs(1_763_640_000);

/// A running larder; it stops when this is dropped. It is a [`Client`] of its own proxy listener.
pub struct Larder {
    proxy: Client,
    pub admin: Client,
    pub clock: Clock,
    reconfigure: tokio::sync::mpsc::Sender<::larder::ConfigChange>,
    environment: std::collections::HashMap<String, String>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<std::io::Result<()>>>,
    log_mark: usize,
}

impl Larder {
    /// Starts it with a `proxy.yaml` that need not name its upstream (`${UPSTREAM}` stands for it where it does).
    pub fn with(yaml: &str, upstream: &Upstream) -> Self {
        Self::with_upstream_url(&upstream.url(), yaml)
    }

    pub fn with_upstream_url(upstream: &str, yaml: &str) -> Self {
        Self::with_environment(&complete(yaml), &[("UPSTREAM", upstream)])
    }

    /// Starts it with exactly this `proxy.yaml` (but for the listeners), under an environment.
    pub fn with_environment(yaml: &str, environment: &[(&str, &str)]) -> Self {
        Self::with_clock(Clock::manual(START), yaml, environment)
    }

    /// Like [`Larder::with_environment`], under this clock.
    pub fn with_clock(clock: Clock, yaml: &str, environment: &[(&str, &str)]) -> Self {
        let log_mark = logs::mark();
        let variable =
            |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let config = Config::parse(yaml, "proxy.yaml", &variable, &Default::default())
            .unwrap_or_else(|errors| panic!("{errors}"));
        let (proxy, proxy_client) = listen();
        let (admin, admin_client) = listen();
        let listeners = Listeners { proxy: vec![proxy], admin: Some(admin), outlive_process: false };
        let (reconfigure, changes) = tokio::sync::mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let (say_ended, ended) = oneshot::channel();
        let its_clock = clock.clone();
        std::thread::spawn(move || {
            let shutdown = async { drop(stopped.await) };
            let _ =
                say_ended.send(::larder::run_with_reload(config, changes, listeners, its_clock, shutdown));
        });
        Self {
            proxy: proxy_client,
            admin: admin_client,
            clock,
            reconfigure,
            environment: environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            stop: Some(stop),
            ended: Some(ended),
            log_mark,
        }
    }

    /// Moves the clock.
    pub fn after(&self, seconds: u64) -> &Self {
        self.clock.advance(Duration::from_secs(seconds));
        self
    }

    /// Gives it another `proxy.yaml`, right or wrong, and waits until it has judged it.
    pub async fn reconfigure(&self, yaml: &str) {
        let before = self.reloads().await;
        let variable = |name: &str| self.environment.get(name).cloned();
        let change = Config::parse(&complete(yaml), "proxy.yaml", &variable, &Default::default());
        self.reconfigure.send(change).await.expect("it runs");
        eventually("the change is judged", || async { (self.reloads().await > before).then_some(()) }).await;
    }

    async fn reloads(&self) -> f64 {
        self.metric("larder_config_reloads_total{result=\"used\"}").await
            + self.metric("larder_config_reloads_total{result=\"refused\"}").await
    }

    /// Tells it to stop, and goes on at once.
    pub fn shut_down(&mut self) {
        self.stop = None;
    }

    /// Waits until it has stopped.
    pub async fn stopped(&mut self) -> std::io::Result<()> {
        let ended = self.ended.take().expect("asked once");
        super::with_deadline("larder has stopped", ended).await.expect("no panic in larder")
    }

    /// The paths of `reads` that are no hits.
    pub async fn misses<'p>(&self, reads: &[&'p str]) -> Vec<&'p str> {
        let mut misses = Vec::new();
        for read in reads {
            if !self.get(read).await.assert_status(200).is_hit() {
                misses.push(*read);
            }
        }
        misses
    }

    /// The value of a metric, by its name and labels as they are printed; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        metric(&self.admin.get("/metrics").await.assert_status(200), name)
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        let what = format!("{name} is {value}");
        eventually(&what, || async { (self.metric(name).await == value).then_some(()) }).await;
    }

    /// The log since it was started.
    pub fn log(&self) -> String {
        logs::since(self.log_mark)
    }
}

/// Names the upstream where the text does not.
pub fn complete(yaml: &str) -> String {
    let names_upstream = yaml.lines().any(|line| line.starts_with("upstream:"));
    let upstream = if names_upstream { "" } else { "upstream: ${UPSTREAM}\n" };
    format!("{upstream}{yaml}")
}

pub fn metric(exposition: &super::Reply, name: &str) -> f64 {
    let value = exposition.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

fn listen() -> (Listener, Client) {
    let anywhere = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let listener = Listener::bind(&anywhere).expect("a free port");
    let Ok(Listen::Tcp(address)) = listener.local_addr() else { unreachable!("bound as TCP") };
    (listener, Client::new(address))
}

impl Deref for Larder {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.proxy
    }
}

impl Drop for Larder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what larder logged\n{}---", self.log());
        }
    }
}
