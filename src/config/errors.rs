//! All errors of one file, as they are shown.

use std::fmt;

use super::diagnostics::Diagnostic;
use super::snippet::{hide_secrets, render};

/// All errors of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    source: String,
    /// Without the secrets that the errors are about.
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl ConfigErrors {
    pub(super) fn new(source: &str, text: &str, diagnostics: Vec<Diagnostic>) -> Self {
        Self { source: source.to_owned(), text: hide_secrets(text, &diagnostics), diagnostics }
    }

    /// A line without quoted configuration: the first error's location and message, and the number of errors.
    pub fn summary(&self) -> String {
        let first = self.diagnostics.first();
        let at = first.and_then(|diagnostic| diagnostic.location.line()).map(|line| format!(":{line}"));
        let (source, at) = (&self.source, at.unwrap_or_default());
        match (self.diagnostics.len(), first) {
            (1, Some(only)) => format!("{source}{at}: {}", only.message),
            (count, Some(first)) => format!("{source}{at}: {} (and {} more)", first.message, count - 1),
            (_, None) => source.clone(),
        }
    }

    /// The name of the file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// At least one, in the order of the file.
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// Maximum number of errors that are shown.
const MAX_SHOWN: usize = 100;

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.diagnostics.iter().take(MAX_SHOWN) {
            writeln!(f, "{}", render("error", diagnostic, &self.source, &self.text))?;
        }
        if self.diagnostics.len() > MAX_SHOWN {
            writeln!(f, "… and {} more\n", self.diagnostics.len() - MAX_SHOWN)?;
        }
        match self.diagnostics.len() {
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
