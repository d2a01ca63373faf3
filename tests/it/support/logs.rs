//! Captures larder's log in this process, so that a failing test can show it.

use std::io::Write;
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static BLOCKS: RwLock<Vec<Arc<Gate>>> = RwLock::new(Vec::new());

/// For as long as it lives, the thread that logs a line with its word stands still.
pub struct Block(Arc<Gate>);

struct Gate {
    word: &'static str,
    reached: tokio::sync::Notify,
    opened: Mutex<bool>,
    opens: std::sync::Condvar,
}

impl Block {
    pub fn set(word: &'static str) -> Self {
        let gate = Arc::new(Gate {
            word,
            reached: tokio::sync::Notify::new(),
            opened: Mutex::new(false),
            opens: std::sync::Condvar::new(),
        });
        BLOCKS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&gate));
        Self(gate)
    }

    /// Waits until a thread stands still.
    pub async fn reached(&self) {
        super::with_deadline("a thread stands still", self.0.reached.notified()).await;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        BLOCKS.write().unwrap_or_else(PoisonError::into_inner).retain(|gate| !Arc::ptr_eq(gate, &self.0));
        *self.0.opened.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opens.notify_all();
    }
}

fn pass(line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let blocks = BLOCKS.read().unwrap_or_else(PoisonError::into_inner);
    let gate = blocks.iter().find(|gate| line.contains(gate.word)).cloned();
    drop(blocks);
    if let Some(gate) = gate {
        gate.reached.notify_one();
        let opened = gate.opened.lock().unwrap_or_else(PoisonError::into_inner);
        drop(gate.opens.wait_while(opened, |opened| !*opened));
    }
}

/// Begins to keep the log, once for all tests, and says where in it we are. `LARDER_TEST_LOG` keeps less of it in long runs.
pub fn mark() -> usize {
    static KEEP: Once = Once::new();
    KEEP.call_once(|| {
        let filter = std::env::var("LARDER_TEST_LOG").unwrap_or_else(|_| "larder=debug".to_owned());
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        subscriber.with_writer(|| Keeper).init();
    });
    lines(|lines| lines.len())
}

/// Returns the log since `mark`, including lines of tests that run at the same time.
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
        pass(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
