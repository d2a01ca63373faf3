//! Configuration reload: a new configuration replaces the present one atomically, or not at all.
//!
//! Listeners and the store are not touched; changes to them are reported and need a restart.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::admin::{self, AdminState, Readiness};
use crate::config::{CdnSettings, Config, ConfigErrors, EventSource};
use crate::proxy::{Proxy, SharedProxy};
use crate::server::tls::ListenerTls;
use crate::warming::Warming;

/// A parsed configuration, or its errors.
pub type ConfigChange = Result<Config, ConfigErrors>;

pub(crate) struct ConfigReloader {
    live: SharedProxy,
    admin: Arc<ArcSwap<AdminState>>,
    /// Certificates, read again at each change.
    certificates: Vec<Arc<ListenerTls>>,
}

impl ConfigReloader {
    pub(crate) fn new(
        live: SharedProxy,
        admin: Arc<ArcSwap<AdminState>>,
        certificates: Vec<Arc<ListenerTls>>,
    ) -> Self {
        Self { live, admin, certificates }
    }

    /// Applies changes until the channel closes.
    pub(crate) async fn run(self, mut changes: mpsc::Receiver<ConfigChange>) {
        while let Some(change) = changes.recv().await {
            match change {
                Ok(config) => self.apply(config),
                Err(errors) => {
                    let refused = errors.diagnostics().len();
                    self.reject(errors.summary());
                    tracing::error!(errors = refused, "configuration reload rejected:\n{errors}");
                }
            }
        }
    }

    fn apply(&self, mut config: Config) {
        let current = self.live.load_full();
        let needs_restart = keep_restart_only_settings(&current.config, &mut config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let proxy = match current.reconfigured(config) {
            Ok(proxy) => Arc::new(proxy),
            Err(error) => {
                tracing::error!(%error, "configuration reload rejected: cannot connect to the upstream");
                return self.reject(format!("cannot connect to the upstream: {error}"));
            }
        };
        let loaded = match self.certificates.iter().map(|tls| tls.reload()).collect::<io::Result<Vec<_>>>() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, "configuration reload rejected: cannot read the certificates");
                return self.reject(error.to_string());
            }
        };
        self.certificates.iter().zip(loaded).for_each(|(tls, loaded)| tls.activate(loaded));
        let admin = self.admin.load();
        let view = admin_state(&proxy, admin.readiness.clone(), admin.warming.clone());
        let state = AdminState { reader_slots: admin.reader_slots.clone(), ..view };
        state.readiness.set_config_in_use(needs_restart.clone());
        proxy.metrics.set_needs_restart(!needs_restart.is_empty());
        proxy.publish_figures();
        proxy.metrics.record_reload(proxy.clock.now());
        proxy
            .metrics
            .set_certificate_expiries(self.certificates.iter().flat_map(|tls| tls.expiries()).collect());
        let routes = proxy.config.routes.len();
        self.admin.store(Arc::new(state));
        // First, so that no response under the former rules is served by a request under these.
        proxy.store.use_rules(proxy.routes.rules());
        if proxy.routes.rules() != current.routes.rules() {
            proxy.events.cdn().relay_everything();
        }
        proxy.events.use_secrets(&proxy.config.events);
        if !needs_restart.contains(&"events") {
            proxy.events.use_routes(proxy.routes.clone());
        }
        proxy.callers.start();
        proxy.callers.reread_key_files();
        self.live.store(proxy);
        tracing::info!(routes, "configuration reloaded");
        if !needs_restart.is_empty() {
            tracing::warn!(sections = needs_restart.join(", "), "changed sections need a restart");
        }
    }

    fn reject(&self, reason: String) {
        self.admin.load().readiness.set_config_refused(reason);
        self.live.load().metrics.record_reload_refusal();
    }
}

/// Builds the state of the admin endpoints.
pub(crate) fn admin_state(proxy: &Proxy, readiness: Readiness, warming: Option<Arc<Warming>>) -> AdminState {
    AdminState {
        store: proxy.store.clone(),
        metrics: proxy.metrics.clone(),
        routes: proxy.routes.clone(),
        config: proxy.config.clone(),
        clock: proxy.clock.clone(),
        events: proxy.events.clone(),
        callers: proxy.callers.clone(),
        audit: proxy.audit.clone(),
        observed: proxy.observed.clone(),
        decisions: proxy.decisions.clone(),
        token: proxy.config.admin.token.clone(),
        wait_timeout: proxy.config.purge.wait_timeout,
        readiness,
        held_back: proxy.held_back_keys(),
        field_notices: proxy.field_notices(),
        warming,
        reader_slots: admin::ReaderSlots::default(),
    }
}

/// Resets settings that need a restart to their present values, and returns the names of those that differed.
fn keep_restart_only_settings(current: &Config, new: &mut Config) -> Vec<&'static str> {
    fn keep<T: PartialEq + Clone>(current: &T, new: &mut T) -> bool {
        let differs = current != new;
        new.clone_from(current);
        differs
    }
    let kept = [
        (
            "listen",
            keep(&current.listen, &mut new.listen)
                | keep(&current.listener_settings, &mut new.listener_settings),
        ),
        ("store", keep(&current.store, &mut new.store)),
        ("admin.listen", keep(&current.admin.listen, &mut new.admin.listen)),
        ("limits.connections", keep(&current.limits.connections, &mut new.limits.connections)),
        ("cdn", keep_cdn(&current.cdn, new)),
        ("events", keep_events(&current.events, &mut new.events)),
        ("log", keep(&current.log, &mut new.log)),
        ("tracing", keep(&current.tracing, &mut new.tracing)),
    ];
    kept.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Until the restart the caches of before are purged, too: responses list their targets for all.
fn keep_cdn(current: &[CdnSettings], new: &mut Config) -> bool {
    let differs = current != new.cdn;
    if differs {
        let fields = current.iter().map(|cdn| cdn.api.field()).collect::<Vec<_>>();
        new.routes.iter_mut().for_each(|route| Arc::make_mut(route).list_for(&fields));
        new.cdn = current.to_vec();
    }
    differs
}

/// Resets all but the secrets of webhooks, and returns whether anything else differed.
fn keep_events(current: &[EventSource], new: &mut Vec<EventSource>) -> bool {
    let kept: Vec<EventSource> = current.iter().map(|source| source.replace_secrets_from(new)).collect();
    let differs = kept != *new;
    *new = kept;
    differs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingOverrides;

    fn config(text: &str) -> Config {
        let text = format!("upstream: http://127.0.0.1:3000\n{text}");
        Config::parse(&text, "proxy.yaml", &|_| None, &SettingOverrides::default())
            .unwrap_or_else(|e| panic!("{e}"))
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
            ("cdn: [{type: http, url: 'http://varnish'}]", vec!["cdn"]),
            ("limits: {connections: 5}\nlog: {level: debug}", vec!["limits.connections", "log"]),
            ("events: [{webhook: /hooks/h, secret: sixteen bytes long, purge: [a]}]", vec!["events"]),
        ] {
            let (current, mut new) = (config(""), config(text));
            assert_eq!(keep_restart_only_settings(&current, &mut new), named, "{text}");
            assert_eq!(keep_restart_only_settings(&current, &mut new), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn secrets_of_webhooks_are_replaced_and_nothing_else() {
        let hook = |secret: &str, more: &str| {
            config(&format!("events: [{{name: h, webhook: /hooks/h, secret: {secret}, purge: [a]{more}}}]"))
        };
        let current = hook("sixteen bytes long", "");
        for (secret, more, needs_restart) in [
            ("[sixteen bytes long, another of that length]", "", false),
            ("another of that length", "", false),
            ("another of that length", ", stale_after: 1m", true),
        ] {
            let mut new = hook(secret, more);
            let named = keep_restart_only_settings(&current, &mut new);
            assert_eq!(named.contains(&"events"), needs_restart, "{secret}{more}");
            assert_eq!(new.events, hook(secret, "").events, "{secret}{more}");
        }
    }
}
