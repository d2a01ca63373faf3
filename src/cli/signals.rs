//! Signals. The first SIGTERM, SIGINT or SIGQUIT drains, the second exits as soon as what is under way is purged. SIGHUP
//! reloads the configuration. SIGUSR1 and SIGUSR2, which nginx knows, change nothing: scripts that were written for it do
//! no harm.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::ExitAtOnce;

/// How long the second signal waits for purges: for their own time-out, and for busy workers.
const PURGE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The signals since the process began, from before anything handles them: one that comes during the start ends no
/// process in the middle of it.
pub(super) struct RegisteredSignals {
    runtime: Runtime,
    signals: Signals,
}

impl RegisteredSignals {
    pub(super) fn register() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let signals = Signals::register(&runtime)?;
        Ok(Self { runtime, signals })
    }
}

/// The error of a command that can't go on without signals.
pub(super) fn explain(error: io::Error) -> String {
    format!("can't listen to signals: {error}")
}

/// Completes at the first SIGTERM, SIGINT or SIGQUIT. The receiver hears of the second one. `hangup` is called on each
/// SIGHUP. A thread of its own handles the signals, so that the second one works even if all workers are busy.
pub(super) fn shutdown_requested(
    RegisteredSignals { runtime, signals }: RegisteredSignals,
    hangup: impl Fn() + Send + 'static,
) -> io::Result<(impl Future<Output = ()> + Send + 'static, oneshot::Receiver<ExitAtOnce>)> {
    let (sender, receiver) = oneshot::channel();
    let (exit, exiting) = oneshot::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(signals.handle((sender, exit), hangup)))?;
    let drain = async move {
        if receiver.await.is_err() {
            // Without the thread no signal arrives; that is no reason to stop.
            std::future::pending::<()>().await;
        }
    };
    Ok((drain, exiting))
}

/// Receives the number of the first SIGTERM, SIGHUP, SIGINT or SIGQUIT, for a command that has something to restore.
pub(super) fn watch_for_end() -> io::Result<mpsc::Receiver<u8>> {
    let RegisteredSignals { runtime, signals } = RegisteredSignals::register()?;
    let Signals { mut terminate, mut interrupt, mut quit, mut hangup, .. } = signals;
    let (sender, ended) = mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let kind = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = quit.recv() => SignalKind::quit(),
                _ = hangup.recv() => SignalKind::hangup(),
            }
        });
        _ = sender.send(u8::try_from(kind.as_raw_value()).unwrap_or_default());
    })?;
    Ok(ended)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_defined: [Signal; 2],
}

impl Signals {
    fn register(runtime: &Runtime) -> io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user_defined: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    async fn handle(
        mut self,
        (drain, exit): (oneshot::Sender<()>, oneshot::Sender<ExitAtOnce>),
        hangup: impl Fn(),
    ) {
        let name = self.next(&hangup).await.0;
        tracing::info!(signal = name, "draining; a second signal exits at once");
        _ = drain.send(());
        let (name, number) = self.next(&hangup).await;
        tracing::warn!(signal = name, "exiting at once");
        let (purging, purged) = mpsc::channel();
        if exit.send(purging).is_ok() {
            _ = purged.recv_timeout(PURGE_TIMEOUT);
        }
        crate::logging::flush();
        // The exit code by which a shell reports a signal.
        std::process::exit(128 + number);
    }

    /// The next SIGTERM, SIGINT or SIGQUIT.
    async fn next(&mut self, hangup: &impl Fn()) -> (&'static str, i32) {
        let [reopen, other] = &mut self.user_defined;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return ("SIGTERM", SignalKind::terminate().as_raw_value()),
                _ = self.interrupt.recv() => return ("SIGINT", SignalKind::interrupt().as_raw_value()),
                _ = self.quit.recv() => return ("SIGQUIT", SignalKind::quit().as_raw_value()),
                _ = self.hangup.recv() => hangup(),
                _ = reopen.recv() => tracing::info!(signal = "SIGUSR1", "renamed log files are opened anew at their next line"),
                _ = other.recv() => tracing::warn!(signal = "SIGUSR2", "signal ignored"),
            }
        }
    }
}
