//! Reads the configuration again when its file, or one that it names, changes, or SIGHUP asks for it. It judges nothing: what was read, or why
//! it can't be, is handed on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::Change;
use crate::config::{Config, Overrides};

/// A file is read when nothing has happened to it for so long: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// However busy its directory is, the file is read after so many events.
const MOST_EVENTS: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened in the file's directory.
    Touched,
    /// Somebody asks for it, changed or not.
    Asked,
}

pub struct Watched {
    path: PathBuf,
    /// Other files that it names, whose change is a change of it: certificates.
    others: Vec<PathBuf>,
    overrides: Overrides,
    /// What the files said before they were read for the first time.
    seen: Vec<Option<Print>>,
}

/// Stands for a file's content.
type Print = u64;

impl Watched {
    /// To be made before the configuration is read, so that no change goes unseen.
    pub fn new(path: &Path, overrides: Overrides) -> Self {
        let (path, others) = (path.to_path_buf(), Vec::new());
        let seen = prints(&path, &others);
        Self { path, others, overrides, seen }
    }

    /// As well as the file itself.
    pub fn also(mut self, others: Vec<PathBuf>) -> Self {
        let itself = self.seen.first().copied();
        self.seen = itself.into_iter().chain(others.iter().map(|path| print(path))).collect();
        Self { others, ..self }
    }

    /// Watches from now on, on a thread of its own. Whoever holds the sender can ask.
    pub fn start(mut self) -> (Sender<Event>, mpsc::Receiver<Change>) {
        let (events, happened) = channel();
        let (changes, changed) = mpsc::channel(1);
        let watcher = self.watch(events.clone());
        // It may have changed while nobody watched.
        _ = events.send(Event::Touched);
        let thread = std::thread::Builder::new().name("config".into());
        let started = thread.spawn(move || {
            let _watcher = watcher;
            self.follow(&happened, &changes);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "changes of the configuration are not seen");
        }
        (events, changed)
    }

    /// The directory is watched and not the file: it is replaced by renaming, and in a ConfigMap it is a link whose
    /// target moves.
    fn watch(&self, events: Sender<Event>) -> Option<RecommendedWatcher> {
        let tell = move |event: notify::Result<notify::Event>| {
            // Reading it is an event too.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                _ = events.send(Event::Touched);
            }
        };
        let watching = notify::recommended_watcher(tell).and_then(|mut watcher| {
            for directory in self.directories() {
                watcher.watch(&directory, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        watching
            .inspect_err(|error| tracing::warn!(%error, "the configuration is read again on SIGHUP only"))
            .ok()
    }

    /// Where the file is, and where it really is.
    fn directories(&self) -> Vec<PathBuf> {
        let of = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut directories = Vec::new();
        for path in std::iter::once(&self.path).chain(&self.others) {
            directories.push(of(path));
            directories.extend(path.canonicalize().map(|path| of(&path)));
        }
        directories.sort();
        directories.dedup();
        directories
    }

    fn follow(&mut self, happened: &Receiver<Event>, changes: &mpsc::Sender<Change>) {
        while let Ok(first) = happened.recv() {
            let mut asked = first == Event::Asked;
            for _ in 0..MOST_EVENTS {
                match happened.recv_timeout(QUIET) {
                    Ok(event) => asked |= event == Event::Asked,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let now = prints(&self.path, &self.others);
            if now == self.seen && !asked {
                continue;
            }
            self.seen = now;
            if changes.blocking_send(Config::load_with(&self.path, &self.overrides)).is_err() {
                return;
            }
        }
    }
}

fn prints(path: &Path, others: &[PathBuf]) -> Vec<Option<Print>> {
    std::iter::once(path).chain(others.iter().map(PathBuf::as_path)).map(print).collect()
}

fn print(path: &Path) -> Option<Print> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests;
