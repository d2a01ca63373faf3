//! The state of the screen, and what the keys do to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::figures::History;
use super::poll::Update;
use super::{COLUMNS, SortColumn};

/// Lines that a page key moves by.
const PAGE: usize = 10;

pub(super) struct Session {
    pub history: History,
    pub sort: SortColumn,
    pub is_reversed: bool,
    pub is_paused: bool,
    pub shows_help: bool,
    pub shows_paths: bool,
    /// The most used paths with their hits; `None` until they are known.
    pub paths: Option<Vec<(String, u64)>>,
    /// Routes above the first that is shown.
    pub offset: usize,
    /// Maximum number of routes.
    pub limit: usize,
    /// Why the counters are not the latest.
    pub trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterKey {
    Continue,
    Quit,
}

impl Session {
    pub(super) fn new(sort: SortColumn, limit: usize, history: History) -> Self {
        Self {
            history,
            sort,
            is_reversed: false,
            is_paused: false,
            shows_help: false,
            shows_paths: false,
            paths: None,
            offset: 0,
            limit,
            trouble: None,
        }
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> AfterKey {
        let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if is_control_c => return AfterKey::Quit,
            KeyCode::Esc if self.shows_help => self.shows_help = false,
            KeyCode::Char('q') | KeyCode::Esc => return AfterKey::Quit,
            KeyCode::Char(c) => self.press_character(c),
            cursor => self.press_cursor(cursor),
        }
        AfterKey::Continue
    }

    fn press_character(&mut self, c: char) {
        match c {
            '?' | 'h' => self.shows_help = !self.shows_help,
            'p' | ' ' => self.is_paused = !self.is_paused,
            'k' => self.shows_paths = !self.shows_paths,
            'r' => self.is_reversed = !self.is_reversed,
            '0'..='9' => {
                // 1 is the first column, and 0 the tenth.
                let column = (c as usize - '0' as usize + 9) % 10;
                self.sort = COLUMNS[column].0;
            }
            _ => {}
        }
    }

    fn press_cursor(&mut self, code: KeyCode) {
        match code {
            KeyCode::Right => self.move_sort(1),
            KeyCode::Left => self.move_sort(COLUMNS.len() - 1),
            KeyCode::Down => self.offset += 1,
            KeyCode::Up => self.offset = self.offset.saturating_sub(1),
            KeyCode::PageDown => self.offset += PAGE,
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            KeyCode::Home => self.offset = 0,
            _ => {}
        }
    }

    fn move_sort(&mut self, by: usize) {
        let column = COLUMNS.iter().position(|(column, _)| *column == self.sort);
        self.sort = COLUMNS[column.map_or(0, |column| (column + by) % COLUMNS.len())].0;
    }

    pub(super) fn take(&mut self, update: Result<Update, String>) {
        match update {
            Ok(update) => {
                self.trouble = None;
                self.history.push(update.sample);
                self.paths = update.paths.or(self.paths.take());
            }
            Err(error) => self.trouble = error.lines().next().map(super::figures::plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample;
    use super::*;

    fn press(session: &mut Session, code: KeyCode) -> AfterKey {
        session.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_sort_pause_help_and_quit() {
        let mut session = Session::new(SortColumn::Requests, 20, History::default());
        for (code, sort) in [
            (KeyCode::Right, SortColumn::Hits),
            (KeyCode::Left, SortColumn::Requests),
            (KeyCode::Char('1'), SortColumn::Route),
            (KeyCode::Left, SortColumn::Errors),
            (KeyCode::Right, SortColumn::Route),
            (KeyCode::Char('7'), SortColumn::ApiTime),
            (KeyCode::Char('0'), SortColumn::Errors),
        ] {
            assert_eq!(press(&mut session, code), AfterKey::Continue);
            assert_eq!(session.sort, sort, "{code:?}");
        }
        for code in ['r', 'p', 'k', '?'].map(KeyCode::Char) {
            press(&mut session, code);
        }
        assert!(session.is_reversed && session.is_paused && session.shows_paths && session.shows_help);
        assert_eq!(press(&mut session, KeyCode::Esc), AfterKey::Continue);
        assert!(!session.shows_help, "Esc closes the help first");
        assert_eq!(press(&mut session, KeyCode::Esc), AfterKey::Quit);
        assert_eq!(press(&mut session, KeyCode::Char('q')), AfterKey::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(session.press(interrupt), AfterKey::Quit);
    }

    #[test]
    fn what_is_known_stays_while_larder_does_not_answer() {
        let mut session = Session::new(SortColumn::Requests, 20, History::default());
        let paths = Some(vec![("/a".to_owned(), 3)]);
        session.take(Ok(Update { sample: sample(0, 1), paths: paths.clone() }));
        session.take(Err("nothing listens\nfix".to_owned()));
        assert_eq!(session.trouble.as_deref(), Some("nothing listens"));
        assert_eq!(session.history.rows(SortColumn::Requests, false).len(), 2);
        session.take(Ok(Update { sample: sample(2, 2), paths: None }));
        assert_eq!((session.trouble, session.paths), (None, paths));
    }
}
