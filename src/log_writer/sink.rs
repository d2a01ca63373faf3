//! Output of a writing thread: standard output, standard error, or a file that may be rotated.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Unbuffered.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    /// Set for a file that is reopened by name.
    path: Option<PathBuf>,
}

impl Sink {
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self::from_file(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    pub(crate) fn stderr() -> io::Result<Self> {
        Ok(Self::from_file(File::from(io::stderr().as_fd().try_clone_to_owned()?)))
    }

    /// Writes to this file, whatever its name becomes.
    pub(super) fn from_file(file: File) -> Self {
        Self { file, path: None }
    }

    /// Opens for appending, and creates the file if it does not exist.
    pub(crate) fn open_file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open_append(path)?, path: Some(path.to_path_buf()) })
    }

    /// Reopens the path if the file was renamed or removed. If that fails, writing continues to the old file.
    pub(crate) fn reopen_if_moved(&mut self) {
        let Some(path) = &self.path else { return };
        let identity = |file: Metadata| (file.dev(), file.ino());
        let there = std::fs::metadata(path).map(identity).ok();
        if there.is_none() || there != self.file.metadata().map(identity).ok() {
            self.file = match open_append(path) {
                Ok(file) => file,
                Err(_) => return,
            };
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Not world-readable: the access log names clients.
fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
