//! Test files for `larder test`: requests, and the expected handling of each by a configuration. They are read as
//! `proxy.yaml` is, with all errors at once. `explain::rules` runs the tests.

mod read;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::diagnostics::{Diagnostic, Diagnostics, Location};
use super::errors::ConfigErrors;
pub(crate) use super::fields::Located;
use super::root::RootFields;
use super::settings::Settings as _;
use super::snippet::render;
use super::variables::{self, Environment};
use super::{load, yaml};

/// A test file.
#[derive(Debug)]
pub struct Rules {
    /// The configuration under test.
    pub config: PathBuf,
    pub(crate) tests: Vec<Test>,
    source: String,
    text: String,
}

/// A request, the upstream's response, and the expectations.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub name: String,
    pub location: Location,
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub data: Bytes,
    pub status: StatusCode,
    pub response_headers: HeaderMap,
    pub body: Option<Bytes>,
    pub expect: Expect,
}

/// The expectations of a test; what is `None` or empty is not checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    pub decision: Option<Located<Decision>>,
    pub route: Option<Located<String>>,
    pub stored: Option<Located<bool>>,
    pub reason: Option<Located<String>>,
    /// The inner `None` stands for `none`: until purged.
    pub ttl: Option<Located<Option<Duration>>>,
    pub tags: Option<Located<Vec<String>>>,
    pub purges: Option<Located<Vec<String>>>,
    /// Indices of other tests of the file.
    pub purged_by: Vec<Located<usize>>,
    pub survives: Vec<Located<usize>>,
    pub same_as: Vec<Located<usize>>,
    pub differs_from: Vec<Located<usize>>,
}

/// How a request is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Lookup,
    Pass,
    Write,
    Refused,
}

impl Decision {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Decision::Lookup => "lookup",
            Decision::Pass => "pass",
            Decision::Write => "write",
            Decision::Refused => "refused",
        }
    }
}

impl Rules {
    /// Reads a file, with the environment of this process.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (text, source) = load::read_file(
            path,
            "check the path of the test file; `--config` names the configuration under test",
        )?;
        let rules = Self::parse(&text, &source, &|name| std::env::var(name).ok())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self { config: folder.join(&rules.config), ..rules })
    }

    /// Parses a file of tests; `source` names it in errors.
    pub fn parse(text: &str, source: &str, environment: Environment<'_>) -> Result<Self, ConfigErrors> {
        let diagnostics = Diagnostics::for_file(RootFields::SECTION);
        let read = yaml::parse(text, &diagnostics).and_then(|mut root| {
            variables::substitute(&mut root, environment, &diagnostics);
            read::file(&root, &diagnostics)
        });
        let (errors, _) = diagnostics.into_parts();
        match read {
            Some((config, tests)) if errors.is_empty() => {
                Ok(Self { config, tests, source: source.to_owned(), text: text.to_owned() })
            }
            _ => Err(ConfigErrors::new(source, text, errors)),
        }
    }

    /// The name of the file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a failed expectation with its line.
    pub(crate) fn render_failure(&self, failure: &Diagnostic) -> String {
        render("failed", failure, &self.source, &self.text)
    }
}
