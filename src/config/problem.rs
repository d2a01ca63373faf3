//! What is wrong with a configuration: every problem at once, each with its place and the fix.

use std::cell::RefCell;
use std::fmt;

use super::snippet::render;

/// Where something stands. Lines and columns count from 1, columns and lengths in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    Start,
    Text {
        line: usize,
        column: usize,
        length: usize,
    },
    /// Not in the file: a flag or variable, by its name.
    Override(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Another place that has to do with it.
    pub note: Option<(Place, String)>,
    /// Of a kind of warning, by which it can be allowed.
    pub name: &'static str,
}

/// Collects problems while the file is read on.
#[derive(Debug, Default)]
pub struct Problems {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

/// A problem just reported, to be completed.
pub struct Reported<'p>(&'p RefCell<Vec<Problem>>, usize);

/// All that is wrong with one file.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    source: String,
    text: String,
    problems: Vec<Problem>,
}

impl Place {
    pub fn line(self) -> Option<usize> {
        match self {
            Place::Text { line, .. } => Some(line),
            _ => None,
        }
    }

    pub fn column(self) -> Option<usize> {
        match self {
            Place::Text { column, .. } => Some(column),
            _ => None,
        }
    }
}

impl Problems {
    pub fn error(&self, place: Place, message: impl Into<String>) -> Reported<'_> {
        push(&self.errors, place, message.into())
    }

    pub fn warning(&self, place: Place, message: impl Into<String>) -> Reported<'_> {
        push(&self.warnings, place, message.into())
    }

    /// How many errors there are.
    pub fn count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// The errors and the warnings, in the order of the file; the same thing is said once.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (in_order(self.errors.into_inner()), in_order(self.warnings.into_inner()))
    }
}

fn push(list: &RefCell<Vec<Problem>>, place: Place, message: String) -> Reported<'_> {
    let mut problems = list.borrow_mut();
    problems.push(Problem { place, message, help: None, note: None, name: "advice" });
    Reported(list, problems.len() - 1)
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place);
    problems.dedup();
    problems
}

impl Reported<'_> {
    pub fn help(self, help: impl Into<String>) -> Self {
        self.edit(|problem| problem.help = Some(help.into()))
    }

    pub fn note(self, place: Place, note: impl Into<String>) -> Self {
        self.edit(|problem| problem.note = Some((place, note.into())))
    }

    pub fn named(self, name: &'static str) -> Self {
        self.edit(|problem| problem.name = name)
    }

    fn edit(self, change: impl FnOnce(&mut Problem)) -> Self {
        if let Some(problem) = self.0.borrow_mut().get_mut(self.1) {
            change(problem);
        }
        self
    }
}

impl ConfigErrors {
    pub(super) fn new(source: &str, text: &str, problems: Vec<Problem>) -> Self {
        Self { source: source.to_owned(), text: text.to_owned(), problems }
    }

    /// At least one, in the order of the file.
    /// In one line that can be shown to anybody: where the first error stands, and how many there are.
    pub fn summary(&self) -> String {
        let first = self.problems.first();
        let at = first.and_then(|problem| problem.place.line()).map(|line| format!(":{line}"));
        let (source, at) = (&self.source, at.unwrap_or_default());
        match (self.problems.len(), first) {
            (1, Some(only)) => format!("{source}{at}: {}", only.message),
            (count, Some(first)) => format!("{source}{at}: {} (and {} more)", first.message, count - 1),
            (_, None) => source.clone(),
        }
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Nobody reads more at a time.
const SHOWN: usize = 100;

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(SHOWN) {
            writeln!(f, "{}", render("error", problem, &self.source, &self.text))?;
        }
        if self.problems.len() > SHOWN {
            writeln!(f, "… and {} more\n", self.problems.len() - SHOWN)?;
        }
        match self.problems.len() {
            1 => write!(f, "{}: 1 error", self.source),
            many => write!(f, "{}: {many} errors", self.source),
        }
    }
}

impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigErrors {}
