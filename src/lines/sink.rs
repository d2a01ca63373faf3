//! Where lines go: standard output, standard error, or a file that may be renamed under us.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Written to without a buffer of its own.
#[derive(Debug)]
pub struct Sink {
    file: File,
    /// For a file that is followed by its name.
    path: Option<PathBuf>,
}

impl Sink {
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::of(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    pub fn stderr() -> io::Result<Self> {
        Ok(Self::of(File::from(io::stderr().as_fd().try_clone_to_owned()?)))
    }

    /// One that keeps its place, whatever its name.
    pub(super) fn of(file: File) -> Self {
        Self { file, path: None }
    }

    /// Lines are added at its end; it is made if it is not there.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open(path)?, path: Some(path.to_path_buf()) })
    }

    /// A file that was renamed or removed is left to whoever did so, and made anew under its name. While that can't be
    /// done, the old one goes on.
    pub fn follow(&mut self) {
        let Some(path) = &self.path else { return };
        let identity = |file: Metadata| (file.dev(), file.ino());
        let there = std::fs::metadata(path).map(identity).ok();
        if there.is_none() || there != self.file.metadata().map(identity).ok() {
            self.file = match open(path) {
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

/// Not for everybody's eyes: it says who asked for what.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
