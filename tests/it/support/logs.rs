//! What larder logs in this process, kept so that a failing test can show it.

use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Begins to keep the log, once for all tests, and says where in it we are.
pub fn mark() -> usize {
    static KEEP: Once = Once::new();
    KEEP.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::new("larder=debug");
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        subscriber.with_writer(|| Keeper).init();
    });
    lines(|lines| lines.len())
}

/// What was logged since `mark`; tests that run at the same time are in it too.
pub fn since(mark: usize) -> String {
    lines(|lines| String::from_utf8_lossy(&lines[mark..]).into_owned())
}

fn lines<T>(look: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    look(&mut LINES.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Keeper;

impl Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lines(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
