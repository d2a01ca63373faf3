//! SIGTERM and SIGINT: the first asks larder to end what is under way, the second ends it at once. SIGHUP asks for the
//! configuration to be read again.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Completes at the first signal that asks for an end; `hangup` is called at each SIGHUP. The signals have a thread of their own, so that the second one is heard however
/// busy the others are.
pub fn shutdown(hangup: impl Fn() + Send + 'static) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let signals = Signals::register(&runtime)?;
    let (asked, ask) = oneshot::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(signals.tell(asked, hangup)))?;
    Ok(async move {
        if ask.await.is_err() {
            // The thread is gone and no signal will be heard; that is no reason to stop.
            std::future::pending::<()>().await;
        }
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register(runtime: &Runtime) -> io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn tell(mut self, asked: oneshot::Sender<()>, hangup: impl Fn()) {
        let name = self.next(&hangup).await.0;
        tracing::info!(signal = name, "ending what is under way; a second signal ends at once");
        _ = asked.send(());
        let (name, number) = self.next(&hangup).await;
        tracing::warn!(signal = name, "ended at once");
        crate::logging::flush();
        // As a shell reports a process that a signal ended.
        std::process::exit(128 + number);
    }

    /// The next one that asks for an end.
    async fn next(&mut self, hangup: &impl Fn()) -> (&'static str, i32) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return ("SIGTERM", SignalKind::terminate().as_raw_value()),
                _ = self.interrupt.recv() => return ("SIGINT", SignalKind::interrupt().as_raw_value()),
                _ = self.hangup.recv() => hangup(),
            }
        }
    }
}
