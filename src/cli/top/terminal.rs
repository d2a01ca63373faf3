//! Shows a session on the terminal: when it is drawn, and when the counters are asked for.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::poll::{Poller, StatsSource, Wanted};
use super::screen::draw;
use super::session::{AfterKey, Session};
use crate::cli::signals;

/// How long a key is waited for before it is seen whether there is something new to draw.
const KEY_TIMEOUT: Duration = Duration::from_millis(100);

/// The replica counts its entries for the most used paths, so they are asked for less often.
const PATHS_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the session until a key or a signal ends it; returns the signal's number. The terminal is as before then.
pub(super) fn run(session: Session, sources: Vec<StatsSource>, interval: Duration) -> io::Result<Option<u8>> {
    let ending = signals::watch_for_end()?;
    let terminal = ratatui::try_init()?;
    let ended = show(terminal, session, &Poller::start(sources), interval, &ending);
    let restored = ratatui::try_restore();
    match (&ended, &ending.try_recv()) {
        // The terminal may be gone.
        (Ok(Some(signal)), _) | (_, Ok(signal)) => Ok(Some(*signal)),
        _ => restored.and(ended),
    }
}

/// When the counters were asked for last.
#[derive(Default)]
struct Schedule {
    counters_at: Option<Instant>,
    paths_at: Option<Instant>,
    is_waiting: bool,
}

impl Schedule {
    /// The request that is due, if any.
    fn next(&mut self, session: &Session, interval: Duration) -> Option<Wanted> {
        let has_passed = |at: Option<Instant>, interval| at.is_none_or(|at| at.elapsed() >= interval);
        let wants_paths = session.shows_paths && has_passed(self.paths_at, PATHS_INTERVAL);
        if self.is_waiting || session.is_paused || !(wants_paths || has_passed(self.counters_at, interval)) {
            return None;
        }
        (self.counters_at, self.is_waiting) = (Some(Instant::now()), true);
        if !wants_paths {
            return Some(Wanted::Counters);
        }
        self.paths_at = self.counters_at;
        Some(Wanted::CountersAndPaths)
    }
}

fn show(
    mut terminal: DefaultTerminal,
    mut session: Session,
    poller: &Poller,
    interval: Duration,
    ending: &Receiver<u8>,
) -> io::Result<Option<u8>> {
    // The first counters are there already.
    let mut schedule = Schedule { counters_at: Some(Instant::now()), ..Schedule::default() };
    let mut has_changed = true;
    loop {
        if let Ok(signal) = ending.try_recv() {
            return Ok(Some(signal));
        }
        if let Ok(update) = poller.updates.try_recv() {
            schedule.is_waiting = false;
            session.take(update);
            has_changed = true;
        }
        if let Some(wanted) = schedule.next(&session, interval) {
            poller.ask(wanted);
        }
        if std::mem::take(&mut has_changed) {
            terminal.draw(|frame| draw(frame, &mut session))?;
        }
        if event::poll(KEY_TIMEOUT)? {
            // By a key, or another size of the terminal.
            has_changed = true;
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && session.press(key) == AfterKey::Quit
            {
                return Ok(None);
            }
        }
    }
}
