//! A file of rules: requests, and what a configuration is expected to make of them. Read as `proxy.yaml` is: all that is
//! wrong at once, each with its line and the fix. Never asks whether the expectations hold.

mod keys;
mod read;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::problem::{ConfigErrors, Place, Problem, Problems};
use super::route_fields::Placed;
use super::snippet::render;
use super::variables::{self, Environment};
use super::{read as files, tree};

#[derive(Debug)]
pub struct Rules {
    /// Below the folder that the file is in.
    pub config: PathBuf,
    pub tests: Vec<Test>,
    source: String,
    text: String,
}

#[derive(Clone, Debug)]
pub struct Test {
    pub name: String,
    pub place: Place,
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub data: Bytes,
    pub status: StatusCode,
    pub response_headers: HeaderMap,
    pub body: Option<Bytes>,
    pub expect: Expect,
}

#[derive(Clone, Debug, Default)]
pub struct Expect {
    pub decision: Option<Placed<Decision>>,
    pub route: Option<Placed<String>>,
    pub stored: Option<Placed<bool>>,
    pub reason: Option<Placed<String>>,
    /// `None`: until purged.
    pub ttl: Option<Placed<Option<Duration>>>,
    pub tags: Option<Placed<Vec<String>>>,
    pub purges: Option<Placed<Vec<String>>>,
    /// Tests, by their place among the tests of the file.
    pub purged_by: Vec<Placed<usize>>,
    pub survives: Vec<Placed<usize>>,
    pub same_as: Vec<Placed<usize>>,
    pub differs_from: Vec<Placed<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Lookup,
    Pass,
    Write,
    Refused,
}

impl Decision {
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Lookup => "lookup",
            Decision::Pass => "pass",
            Decision::Write => "write",
            Decision::Refused => "refused",
        }
    }
}

impl Rules {
    /// Reads a file, with the variables of this process.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (text, source) = files::file(path)?;
        let rules = Self::parse(&text, &source, &|name| std::env::var(name).ok())?;
        let beside = path.parent().unwrap_or(Path::new(""));
        Ok(Self { config: beside.join(&rules.config), ..rules })
    }

    pub fn parse(text: &str, source: &str, environment: Environment<'_>) -> Result<Self, ConfigErrors> {
        let problems = Problems::default();
        let read = tree::parse(text, &problems).and_then(|mut root| {
            variables::fill(&mut root, environment, &problems);
            read::file(&root, &problems)
        });
        let (errors, _) = problems.into_parts();
        match read {
            Some((config, tests)) if errors.is_empty() => {
                Ok(Self { config, tests, source: source.to_owned(), text: text.to_owned() })
            }
            _ => Err(ConfigErrors::new(source, text, errors)),
        }
    }

    /// An expectation that does not hold, with its line.
    pub fn show(&self, place: Place, message: String, help: String) -> String {
        let problem = Problem { place, message, help: Some(help), note: None, name: "" };
        render("failed", &problem, &self.source, &self.text)
    }
}
