//! Draws a session: a summary, notices, the routes, the most used paths, and what the keys do.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Row as TableRow, Table};

use super::COLUMNS;
use super::figures::{Row, WINDOW};
use super::poll::MAX_PATHS;
use super::session::Session;

/// Lines of notices; the dashboard has them all.
const MAX_NOTES: usize = 4;

const MIN_NAME_WIDTH: u16 = 12;

const KEYS: &str = "q quit  p pause  \u{2190}\u{2192} sort  r reverse  k keys  ? help";

const HELP: &str = "\
\u{2190} \u{2192}      sort by the column to the left or right
1 \u{2026} 9 0   sort by this column
r        reverse the order
\u{2191} \u{2193}      scroll; also Page Up, Page Down, Home
p        pause, and go on
k        show the most used paths
? h      this help
q Esc    quit

REQ/S, HITS, P95 and API TIME are of the last 10 seconds,
all else since the start. API TIME: how long the API
worked for the route, in each second.";

pub(super) fn draw(frame: &mut Frame<'_>, session: &mut Session) {
    let notes = notes(session);
    let paths = match (&session.paths, session.shows_paths) {
        (_, false) => 0,
        (None, true) => 1,
        (Some(paths), true) => paths.len().clamp(1, MAX_PATHS),
    };
    let title = u16::from(session.shows_paths);
    let [summary, noted, routes, paths_title, most_used, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(notes.len() as u16),
        Constraint::Min(2),
        Constraint::Length(title),
        Constraint::Length(paths as u16),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let state = if session.is_paused { "  PAUSED" } else { "" };
    frame.render_widget(Line::styled(format!("larder  {}{state}", session.history.summary()), bold), summary);
    frame.render_widget(Text::from_iter(notes), noted);
    draw_routes(frame, session, routes);
    if session.shows_paths {
        frame.render_widget(Line::styled("Most used paths in memory, with their hits", bold), paths_title);
        frame.render_widget(path_lines(session), most_used);
    }
    frame.render_widget(Line::styled(KEYS, Style::new().add_modifier(Modifier::REVERSED)), keys);
    if session.shows_help {
        draw_help(frame);
    }
}

fn notes(session: &Session) -> Vec<String> {
    let trouble = session.trouble.iter().map(|trouble| format!("! not the latest: {trouble}"));
    trouble.chain(session.history.notes().iter().map(|note| format!("! {note}"))).take(MAX_NOTES).collect()
}

fn draw_routes(frame: &mut Frame<'_>, session: &mut Session, area: Rect) {
    let mut rows = session.history.rows(session.sort, session.is_reversed);
    rows.truncate(session.limit);
    let shown = usize::from(area.height.saturating_sub(1)).max(1);
    session.offset = session.offset.min(rows.len().saturating_sub(shown));
    let cells: Vec<[String; COLUMNS.len()]> =
        rows.iter().skip(session.offset).take(shown).map(Row::cells).collect();
    let width = |column: usize| {
        let cells = cells.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].1.len()]).max().unwrap_or_default() as u16
    };
    let widths = (0..COLUMNS.len()).map(|column| match column {
        0 => Constraint::Fill(1),
        column => Constraint::Length(width(column)),
    });
    let others: u16 = (1..COLUMNS.len()).map(|column| width(column) + 2).sum();
    let name_width = area.width.saturating_sub(others).max(MIN_NAME_WIDTH);
    let heading = COLUMNS.iter().enumerate().map(|(column, (sort, heading))| {
        let is_sorted = *sort == session.sort;
        let style = Style::new().add_modifier(Modifier::BOLD);
        let style = if is_sorted { style.add_modifier(Modifier::REVERSED) } else { style };
        aligned(column, (*heading).to_owned(), name_width).style(style)
    });
    let body = cells.iter().map(|row| {
        TableRow::new(row.iter().enumerate().map(|(at, cell)| aligned(at, cell.clone(), name_width)))
    });
    let table = Table::new(body, widths).header(TableRow::new(heading)).column_spacing(2);
    frame.render_widget(table, area);
}

/// Names stand to the left, figures to the right.
fn aligned(column: usize, cell: String, name_width: u16) -> Text<'static> {
    match column {
        0 if cell.chars().count() > usize::from(name_width) => {
            let start: String = cell.chars().take(usize::from(name_width) - 1).collect();
            Text::from(start + "\u{2026}")
        }
        0 => Text::from(cell),
        _ => Text::from(cell).right_aligned(),
    }
}

fn path_lines(session: &Session) -> Text<'static> {
    match &session.paths {
        None => Text::from("asking \u{2026}"),
        Some(paths) if paths.is_empty() => Text::from("nothing stored was used yet"),
        Some(paths) => paths
            .iter()
            .take(MAX_PATHS)
            .map(|(path, uses)| Line::from(format!("{uses:>9}  {path}")))
            .collect(),
    }
}

fn draw_help(frame: &mut Frame<'_>) {
    debug_assert_eq!(WINDOW.as_secs(), 10, "the help says so");
    let width = HELP.lines().map(|line| line.chars().count()).max().unwrap_or_default() as u16 + 4;
    let height = HELP.lines().count() as u16 + 2;
    let all = frame.area();
    let area = Rect {
        x: all.width.saturating_sub(width) / 2,
        y: all.height.saturating_sub(height) / 2,
        width: width.min(all.width),
        height: height.min(all.height),
    };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" Keys ")), area);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Map, Value, json};

    use super::super::SortColumn;
    use super::super::figures::tests::sample;
    use super::super::figures::{History, StatsSample};
    use super::*;

    fn session() -> Session {
        let mut history = History::default();
        history.push(sample(0, 0));
        history.push(sample(2, 100));
        Session::new(SortColumn::Requests, 20, history)
    }

    fn lines(session: &mut Session, (width, height): (u16, u16)) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, session)).expect("it draws");
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_screen_has_all_its_parts() {
        let mut session = session();
        let expected = [
            "larder  ok; 2 replicas; 50.0 requests/s, - hits",
            "! two: look",
            "! three has not reported its counters",
            "ROUTE                REQ/S  REQUESTS  HITS  P95 HIT  P95 API  API TIME  PURGES  WRITTEN  ERRORS",
            "a\\u{1b}[2J            50.0       100     -        -    98 ms   5.0 s/s       3  2.0 KiB       0",
            "b                      0.0         7     -        -        -         -       0      0 B       9",
            "",
            KEYS,
        ];
        assert_eq!(lines(&mut session, (95, 8)), expected);
        session.is_paused = true;
        session.trouble = Some("nothing listens".into());
        let drawn = lines(&mut session, (95, 12));
        assert!(drawn[0].ends_with("PAUSED"), "{drawn:?}");
        assert_eq!(drawn[1], "! not the latest: nothing listens");
    }

    #[test]
    fn the_most_used_paths_and_the_help_are_shown_on_demand() {
        let mut session = session();
        session.shows_paths = true;
        assert!(lines(&mut session, (95, 12)).contains(&"asking \u{2026}".to_owned()));
        session.paths = Some(vec![("/a/1".into(), 12), ("/a/2".into(), 3)]);
        let drawn = lines(&mut session, (95, 12));
        assert_eq!(drawn[9..11], ["       12  /a/1", "        3  /a/2"]);
        session.shows_help = true;
        let drawn = lines(&mut session, (95, 20)).join("\n");
        assert!(drawn.contains(" Keys ") && drawn.contains("reverse the order"), "{drawn}");
    }

    /// Two moments of three replicas, ten seconds apart.
    fn documented_session() -> Session {
        let start = Instant::now();
        let sample = |seconds: u64, routes: [[u64; 6]; 3]| {
            let names = ["courses", "course", "search"];
            let route = |[requests, hits, purges, kib, errors, api_micros]: [u64; 6]| {
                let misses = requests - hits - errors;
                json!({
                    "requests": requests, "hits": hits, "misses": misses, "errors": errors, "invalidations": purges,
                    "filledBytes": kib << 10, "fromStore": {"micros": hits * 100, "buckets": {"0.00025": hits}},
                    "fromUpstream": {"micros": api_micros, "buckets": {"0.1": misses}},
                })
            };
            let routes: Map<String, Value> = names
                .into_iter()
                .zip(routes)
                .map(|(name, figures)| (name.to_owned(), route(figures)))
                .collect();
            let stats = json!({
                "status": "ok",
                "routes": routes,
                "replicas": [{"name": "one"}, {"name": "two"}, {"name": "three"}],
                "missing": ["three"],
            });
            StatsSample::from_stats(&stats, start + Duration::from_secs(seconds), "")
        };
        let mut history = History::default();
        history.push(sample(
            0,
            [
                [41_000, 40_100, 31, 880, 0, 9_000_000],
                [9000, 8100, 44, 5300, 2, 9_000_000],
                [700, 0, 0, 0, 0, 42_000_000],
            ],
        ));
        history.push(sample(
            10,
            [
                [46_130, 45_180, 32, 912, 0, 9_500_000],
                [9870, 8890, 46, 5420, 2, 9_810_000],
                [752, 0, 0, 0, 0, 46_100_000],
            ],
        ));
        let mut session = Session::new(SortColumn::Requests, 20, history);
        session.shows_paths = true;
        session.paths = Some(vec![
            ("/api/courses".into(), 20_418),
            ("/api/courses/7".into(), 1204),
            ("/api/courses/12".into(), 377),
        ]);
        session
    }

    /// To write the page anew: `LARDER_UPDATE_DOCS=1 cargo test --lib the_screen_of_the_documentation`.
    #[test]
    fn the_screen_of_the_documentation_is_what_is_drawn() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let text = std::fs::read_to_string(page).expect("the page");
        let (before, rest) =
            text.split_once("On a terminal it is a screen:\n\n```text\n").expect("the screen");
        let (shown, after) = rest.split_once("\n```\n").expect("its end");
        let drawn = lines(&mut documented_session(), (98, 11)).join("\n");
        if std::env::var_os("LARDER_UPDATE_DOCS").is_some() {
            let text = format!("{before}On a terminal it is a screen:\n\n```text\n{drawn}\n```\n{after}");
            return std::fs::write(page, text).expect("it is written");
        }
        assert_eq!(shown, drawn, "LARDER_UPDATE_DOCS=1 writes it anew");
    }

    #[test]
    fn a_small_screen_scrolls_and_never_fails() {
        let mut session = session();
        session.offset = 99;
        let drawn = lines(&mut session, (95, 6));
        assert!(drawn[4].starts_with("b "), "{drawn:?}");
        assert_eq!(session.offset, 1);
        session.shows_help = true;
        session.shows_paths = true;
        for size in [(1, 1), (5, 3), (20, 2), (300, 100)] {
            lines(&mut session, size);
        }
    }
}
