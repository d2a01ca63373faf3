//! A new configuration takes the place of the present one: whole, at one instant, or not at all.
//!
//! It never touches a listener or the store: what changed there is named, and waits for a restart.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::admin::{AdminState, Readiness};
use crate::config::{Config, ConfigErrors};
use crate::proxy::{Live, Proxy};
use crate::server::tls::Tls;
use crate::warming::Warming;

/// What was read from the file, or why it can't be used.
pub type Change = Result<Config, ConfigErrors>;

pub struct Reloading {
    live: Live,
    admin: Arc<ArcSwap<AdminState>>,
    /// Read again with each change.
    certificates: Vec<Arc<Tls>>,
}

impl Reloading {
    pub fn new(live: Live, admin: Arc<ArcSwap<AdminState>>, certificates: Vec<Arc<Tls>>) -> Self {
        Self { live, admin, certificates }
    }

    /// Applies what comes, until nothing can come any more.
    pub async fn run(self, mut changes: mpsc::Receiver<Change>) {
        while let Some(change) = changes.recv().await {
            match change {
                Ok(config) => self.apply(config),
                Err(errors) => {
                    let refused = errors.problems().len();
                    self.refuse(errors.summary());
                    tracing::error!(errors = refused, "the configuration stays as it was:\n{errors}");
                }
            }
        }
    }

    fn apply(&self, mut config: Config) {
        let present = self.live.load_full();
        let needs_restart = keep_what_needs_a_restart(&present.config, &mut config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let proxy = match present.reconfigured(config) {
            Ok(proxy) => Arc::new(proxy),
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it was: there is no way to its upstream");
                return self.refuse(format!("there is no way to its upstream: {error}"));
            }
        };
        let fresh = match self.certificates.iter().map(|tls| tls.read()).collect::<io::Result<Vec<_>>>() {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it was, and so do the certificates");
                return self.refuse(error.to_string());
            }
        };
        self.certificates.iter().zip(fresh).for_each(|(tls, fresh)| tls.take(fresh));
        let admin = self.admin.load();
        let state = operators_view(&proxy, admin.readiness.clone(), admin.warming.clone());
        state.readiness.config_in_use(needs_restart.clone());
        proxy.metrics.reloaded(proxy.clock.now());
        proxy.metrics.certificates_end(self.certificates.iter().flat_map(|tls| tls.expiries()).collect());
        let routes = proxy.config.routes.len();
        self.admin.store(Arc::new(state));
        self.live.store(proxy);
        tracing::info!(routes, "a new configuration is in use");
        if !needs_restart.is_empty() {
            tracing::warn!(sections = needs_restart.join(", "), "changed too, and needs a restart");
        }
    }

    fn refuse(&self, reason: String) {
        self.admin.load().readiness.config_refused(reason);
        self.live.load().metrics.reload_refused();
    }
}

/// What the admin endpoints see of a proxy.
pub fn operators_view(proxy: &Proxy, readiness: Readiness, warming: Option<Arc<Warming>>) -> AdminState {
    AdminState {
        store: proxy.store.clone(),
        metrics: proxy.metrics.clone(),
        routes: proxy.routes.clone(),
        config: proxy.config.clone(),
        clock: proxy.clock.clone(),
        token: proxy.config.admin.token.clone(),
        wait_timeout: proxy.config.purge.wait_timeout,
        readiness,
        warming,
    }
}

/// What was set up at the start stays as it is; the names of what would be different.
fn keep_what_needs_a_restart(present: &Config, new: &mut Config) -> Vec<&'static str> {
    fn keep<T: PartialEq + Clone>(present: &T, new: &mut T) -> bool {
        let differs = present != new;
        new.clone_from(present);
        differs
    }
    let kept = [
        ("listen", keep(&present.listen, &mut new.listen) | keep(&present.doors, &mut new.doors)),
        ("store", keep(&present.store, &mut new.store)),
        ("admin.listen", keep(&present.admin.listen, &mut new.admin.listen)),
        ("limits.connections", keep(&present.limits.connections, &mut new.limits.connections)),
        ("log", keep(&present.log, &mut new.log)),
        ("tracing", keep(&present.tracing, &mut new.tracing)),
    ];
    kept.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(text: &str) -> Config {
        let text = format!("upstream: http://127.0.0.1:3000\n{text}");
        Config::parse(&text, "proxy.yaml", &|_| None, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn what_was_set_up_at_the_start_is_named_and_stays() {
        for (text, named) in [
            ("", vec![]),
            ("routes: [{path: /a, ttl: 1s}]\npurge: {parents: false}", vec![]),
            ("limits: {header_timeout: 1s, drain: 1s}\nadmin: {token: secret}", vec![]),
            ("listen: 127.0.0.1:8081", vec!["listen"]),
            ("store: {memory: 1MiB}", vec!["store"]),
            ("admin: off", vec!["admin.listen"]),
            ("limits: {connections: 5}\nlog: {level: debug}", vec!["limits.connections", "log"]),
        ] {
            let (present, mut new) = (config(""), config(text));
            assert_eq!(keep_what_needs_a_restart(&present, &mut new), named, "{text}");
            assert_eq!(keep_what_needs_a_restart(&present, &mut new), Vec::<&str>::new(), "{text}");
        }
    }
}
