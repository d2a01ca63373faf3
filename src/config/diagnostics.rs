//! Errors and warnings about a configuration. They are collected while the file is read, each with its location and fix.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::finding_name::FindingName;
use super::masking::mask_message;
use super::section::Section;
use crate::pem_files::{PemFileError, read_authorities, read_identity};

/// A location in the configuration. Lines and columns count from 1; columns and lengths are in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// The file as a whole.
    Start,
    /// A part of the text.
    Text {
        /// The line.
        line: usize,
        /// The first column.
        column: usize,
        /// The number of characters.
        length: usize,
    },
    /// A flag or variable, by its name.
    Override(&'static str),
}

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub location: Location,
    pub message: String,
    /// The fix: what to write instead.
    pub help: Option<String>,
    /// A related location.
    pub note: Option<(Location, String)>,
    /// The kind of a warning, for `larder lint --allow`.
    pub name: &'static str,
    /// The text at the location is a secret and must not be shown.
    pub is_secret: bool,
}

/// Collects errors and warnings while the file is read.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    /// The section that the file begins with; `None` for a value alone.
    root: Option<&'static Section>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    files: RefCell<Vec<NamedFile>>,
}

/// A file without which larder does not start, or does not do what the file says.
#[derive(Debug)]
struct NamedFile {
    location: Location,
    path: PathBuf,
    usage: FileUsage,
}

/// The use of a file.
#[derive(Debug)]
enum FileUsage {
    Read,
    /// Written, and made if it is not there.
    Written,
    /// The authorities that TLS trusts.
    Authorities,
    /// A key for TLS, and the certificate that it belongs to.
    KeyOf(Location, PathBuf),
}

/// Completes the diagnostic that was reported last.
pub(super) struct DiagnosticBuilder<'p>(&'p RefCell<Vec<Diagnostic>>, usize);

impl Diagnostic {
    pub(crate) fn error(location: Location, message: String, help: String) -> Self {
        Self { location, message, help: Some(help), note: None, name: "error", is_secret: false }
    }
}

impl Location {
    /// The line; `None` outside the text.
    pub fn line(self) -> Option<usize> {
        match self {
            Location::Text { line, .. } => Some(line),
            _ => None,
        }
    }
}

impl Diagnostics {
    /// Diagnostics of a file with this section at its top level.
    pub(super) fn for_file(root: &'static Section) -> Self {
        Self { root: Some(root), ..Self::default() }
    }

    pub(super) fn root(&self) -> Option<&'static Section> {
        self.root
    }

    pub(super) fn error(&self, place: Location, message: impl Into<String>) -> DiagnosticBuilder<'_> {
        push(&self.errors, place, message.into())
    }

    pub(super) fn warning(&self, place: Location, message: impl Into<String>) -> DiagnosticBuilder<'_> {
        push(&self.warnings, place, message.into())
    }

    /// Notes a file that larder reads at its start.
    pub(super) fn name_file_to_read(&self, location: Location, path: &Path) {
        self.name_file(location, path, FileUsage::Read);
    }

    /// Notes a file that larder writes, and makes if it is not there.
    pub(super) fn name_file_to_write(&self, location: Location, path: &Path) {
        self.name_file(location, path, FileUsage::Written);
    }

    /// Notes a file of authorities that TLS trusts.
    pub(super) fn name_authorities(&self, location: Location, path: &Path) {
        self.name_file(location, path, FileUsage::Authorities);
    }

    /// Notes the files of a certificate and its key.
    pub(super) fn name_identity(&self, cert: (Location, &Path), key: (Location, &Path)) {
        self.name_file(key.0, key.1, FileUsage::KeyOf(cert.0, cert.1.to_owned()));
    }

    fn name_file(&self, location: Location, path: &Path, usage: FileUsage) {
        self.files.borrow_mut().push(NamedFile { location, path: path.to_owned(), usage });
    }

    /// Reports the named files that can't be used from here.
    pub(super) fn check_files(&self) {
        self.check_tls_files();
        for NamedFile { location, path, usage } in self.files.take() {
            let is_written = matches!(usage, FileUsage::Written);
            if let Err(error) = try_file(&path, is_written) {
                self.report_unusable(location, &path, is_written, &error);
            }
        }
    }

    /// Reports the files of TLS that can't be used, each where it is named.
    pub(super) fn check_tls_files(&self) {
        let is_tls = |file: &NamedFile| matches!(file.usage, FileUsage::Authorities | FileUsage::KeyOf(..));
        let (tls, rest): (Vec<_>, Vec<_>) = self.files.take().into_iter().partition(is_tls);
        self.files.replace(rest);
        for NamedFile { location, path, usage } in tls {
            let (read, cert) = match usage {
                FileUsage::KeyOf(location, cert) => {
                    (read_identity(&cert, &path).map(drop), Some((location, cert)))
                }
                _ => (read_authorities(&path).map(drop), None),
            };
            let Err(PemFileError { path: unusable, fault, fix }) = read else { continue };
            let at = cert.filter(|(_, cert)| *cert == unusable).map_or(location, |(location, _)| location);
            match try_file(&unusable, false) {
                Err(error) => self.report_unusable(at, &unusable, false, &error),
                Ok(()) => {
                    self.error(at, format!("`{}` can't be used: {fault}", unusable.display())).help(fix);
                }
            }
        }
    }

    fn report_unusable(&self, location: Location, path: &Path, is_written: bool, error: &io::Error) {
        let (what, fix) = match is_written {
            true => ("written", "make its directory, or let larder write there"),
            false => ("read", "name a file that is there, and let larder read it"),
        };
        self.error(location, format!("`{}` can't be {what}: {error}", path.display())).help(fix);
    }

    pub(super) fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Returns the errors and the warnings, in the order of the file and without duplicates.
    pub(super) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (sorted(self.errors.into_inner()), sorted(self.warnings.into_inner()))
    }
}

/// Leaves everything as it is.
fn try_file(path: &Path, is_written: bool) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if file.is_file() => {
            OpenOptions::new().read(!is_written).append(is_written).open(path).map(drop)
        }
        Ok(file) if file.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(()),
        Err(error) if is_written && error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(directory) => fs::metadata(directory).map(drop),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn push(list: &RefCell<Vec<Diagnostic>>, place: Location, message: String) -> DiagnosticBuilder<'_> {
    let mut diagnostics = list.borrow_mut();
    diagnostics.push(Diagnostic {
        location: place,
        message: mask_message(message),
        help: None,
        note: None,
        name: FindingName::Advice.as_str(),
        is_secret: false,
    });
    DiagnosticBuilder(list, diagnostics.len() - 1)
}

fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| diagnostic.location);
    diagnostics.dedup();
    diagnostics
}

impl DiagnosticBuilder<'_> {
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        self.edit(|diagnostic| diagnostic.help = Some(help.into()))
    }

    pub(super) fn note(self, place: Location, note: impl Into<String>) -> Self {
        self.edit(|diagnostic| diagnostic.note = Some((place, note.into())))
    }

    pub(super) fn secret(self) -> Self {
        self.edit(|diagnostic| diagnostic.is_secret = true)
    }

    pub(super) fn name(self, name: FindingName) -> Self {
        self.edit(|diagnostic| diagnostic.name = name.as_str())
    }

    fn edit(self, change: impl FnOnce(&mut Diagnostic)) -> Self {
        if let Some(diagnostic) = self.0.borrow_mut().get_mut(self.1) {
            change(diagnostic);
        }
        self
    }
}
