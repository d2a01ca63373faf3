//! Watches the configuration and the files that it names, and reads it again when one changes or on SIGHUP. The result,
//! also an error, goes to the reloader.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::ConfigChange;
use crate::config::{Config, SettingOverrides};

/// How long a file must be unchanged before it is read: editors write in several steps.
const DEBOUNCE_INTERVAL: Duration = Duration::from_millis(150);

/// The file is read after this many events, even if the directory never becomes quiet.
const MAX_EVENTS_BEFORE_READ: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadEvent {
    /// Something changed in a watched directory.
    Changed,
    /// A reload was requested, whether or not the file changed.
    ReloadRequested,
}

pub(super) struct ConfigWatcher {
    path: PathBuf,
    /// The files of the listeners, which stay until a restart.
    certificates: Vec<PathBuf>,
    /// Those files, and the others that the present configuration names.
    others: Vec<PathBuf>,
    overrides: SettingOverrides,
    /// The content that was read last.
    seen: Vec<Option<ContentHash>>,
}

/// A hash of a file's content.
type ContentHash = u64;

impl ConfigWatcher {
    /// Create it before the configuration is read, so that no change is missed.
    pub(super) fn new(path: &Path, overrides: SettingOverrides) -> Self {
        let path = path.to_path_buf();
        let seen = content_hashes(&path, &[]);
        Self { path, certificates: Vec::new(), others: Vec::new(), overrides, seen }
    }

    /// Watches the certificates of the listeners and of the upstream as well.
    pub(super) fn with_certificates(mut self, of_listeners: Vec<PathBuf>, config: &Config) -> Self {
        self.certificates = of_listeners;
        self.watch_named_files(config);
        self
    }

    /// Watches the files that `config` names from now on. A later change of the configuration itself is still seen.
    fn watch_named_files(&mut self, config: &Config) {
        self.others = self.certificates.iter().cloned().chain(config.upstream.tls.files()).collect();
        self.seen.truncate(1);
        self.seen.extend(self.others.iter().map(|path| content_hash(path)));
    }

    /// Starts a thread that watches. A reload can be requested with the sender.
    pub(super) fn start(mut self) -> (Sender<ReloadEvent>, mpsc::Receiver<ConfigChange>) {
        let (events, received) = channel();
        let (changes, changed) = mpsc::channel(1);
        let watcher = self.watch(events.clone());
        // The file may have changed before the watcher started.
        _ = events.send(ReloadEvent::Changed);
        let thread = std::thread::Builder::new().name("config".into());
        let started = thread.spawn(move || {
            self.follow(watcher, &received, &changes);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "failed to start the configuration watcher; changes are ignored");
        }
        (events, changed)
    }

    /// Watches directories rather than files: files are replaced by renaming, and those of a ConfigMap are links whose target
    /// changes.
    fn watch(&self, events: Sender<ReloadEvent>) -> Option<RecommendedWatcher> {
        let tell = move |event: notify::Result<notify::Event>| {
            // Reads are events too.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                _ = events.send(ReloadEvent::Changed);
            }
        };
        let watching = notify::recommended_watcher(tell).and_then(|mut watcher| {
            self.watch_directories(&mut watcher)?;
            Ok(watcher)
        });
        watching
            .inspect_err(|error| tracing::warn!(%error, "failed to watch the configuration; it is reloaded on SIGHUP only"))
            .ok()
    }

    fn watch_directories(&self, watcher: &mut RecommendedWatcher) -> notify::Result<()> {
        self.directories()
            .iter()
            .try_for_each(|directory| watcher.watch(directory, RecursiveMode::NonRecursive))
    }

    /// The directories of the files and of the targets of links.
    fn directories(&self) -> Vec<PathBuf> {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut directories = Vec::new();
        for path in std::iter::once(&self.path).chain(&self.others) {
            directories.push(parent(path));
            directories.extend(path.canonicalize().map(|path| parent(&path)));
        }
        directories.sort();
        directories.dedup();
        directories
    }

    fn follow(
        &mut self,
        mut watcher: Option<RecommendedWatcher>,
        received: &Receiver<ReloadEvent>,
        changes: &mpsc::Sender<ConfigChange>,
    ) {
        while let Ok(first) = received.recv() {
            let mut is_requested = first == ReloadEvent::ReloadRequested;
            for _ in 0..MAX_EVENTS_BEFORE_READ {
                match received.recv_timeout(DEBOUNCE_INTERVAL) {
                    Ok(event) => is_requested |= event == ReloadEvent::ReloadRequested,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let now = content_hashes(&self.path, &self.others);
            if now == self.seen && !is_requested {
                continue;
            }
            self.seen = now;
            let change = Config::reload(&self.path, &self.overrides);
            if let Ok(config) = &change {
                self.watch_named_files(config);
                let watching = watcher.as_mut().map_or(Ok(()), |watcher| self.watch_directories(watcher));
                if let Err(error) = watching {
                    tracing::warn!(%error, "failed to watch a file of the new configuration");
                }
            }
            if changes.blocking_send(change).is_err() {
                return;
            }
        }
    }
}

fn content_hashes(path: &Path, others: &[PathBuf]) -> Vec<Option<ContentHash>> {
    std::iter::once(path).chain(others.iter().map(PathBuf::as_path)).map(content_hash).collect()
}

fn content_hash(path: &Path) -> Option<ContentHash> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests;
