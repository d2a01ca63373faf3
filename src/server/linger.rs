//! The end of a connection whose client may still send: what it sends is read and dropped, so that it reads the
//! response before the connection is reset (RFC 9112 §9.6).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{sleep, timeout};

use super::activity::ConnectionActivity;
use super::watchdog::IDLE_DRAIN_GRACE;
use crate::config::Limits;
use crate::phase::{Phase, PhaseReceiver};
use crate::progress_timeout::ProgressTimeout;

/// The time that a closed connection is read on for, at most.
const MAX_LINGER: Duration = Duration::from_secs(30);

/// The time without a byte after which a closed connection is not read on.
const MAX_LINGER_IDLE: Duration = Duration::from_secs(5);

/// Bytes of a closed connection that are read, at most.
const MAX_LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A connection whose sending side is closed.
pub(super) struct LingeringConnection<T> {
    transport: T,
    /// Ends when the client sends more slowly than `limits.min_rate`.
    pace: ProgressTimeout,
    activity: Arc<ConnectionActivity>,
    phase: PhaseReceiver,
}

impl<T: AsyncRead + Unpin> LingeringConnection<T> {
    pub(super) fn new(
        transport: T,
        limits: &Limits,
        activity: Arc<ConnectionActivity>,
        phase: PhaseReceiver,
    ) -> Self {
        let pace = ProgressTimeout::with_min_rate(limits.body_timeout.min(MAX_LINGER_IDLE), limits.min_rate);
        Self { transport, pace, activity, phase }
    }

    /// Reads until the client closes or a bound is reached. Like an idle connection, it makes room for others, and ends
    /// soon when the process drains.
    pub(super) async fn run(self) {
        let Self { mut transport, mut pace, activity, mut phase } = self;
        let drained = async {
            phase.reached(Phase::Draining).await;
            sleep(IDLE_DRAIN_GRACE).await;
        };
        tokio::select! {
            _ = timeout(MAX_LINGER, drop_content(&mut transport, &mut pace)) => {}
            () = activity.evicted() => {}
            () = drained => {}
        }
    }
}

async fn drop_content(transport: &mut (impl AsyncRead + Unpin), pace: &mut ProgressTimeout) {
    // On the heap, so that a connection's task has no room for it.
    let mut buffer = vec![0; 8192];
    let mut left = MAX_LINGER_BYTES;
    poll_fn(|cx| {
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *transport).poll_read(cx, &mut read) {
                Poll::Pending => return pace.poll_expired(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let bytes = read.filled().len();
            if bytes == 0 || bytes >= left {
                return Poll::Ready(());
            }
            left -= bytes;
            pace.record(bytes as u64);
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::phase::ProcessPhase;

    struct Lingering {
        client: DuplexStream,
        activity: Arc<ConnectionActivity>,
        phase: ProcessPhase,
        task: JoinHandle<()>,
        begun: Instant,
    }

    fn lingering(limits: &str) -> Lingering {
        let yaml = format!("upstream: http://a\nlimits: {{{limits}}}\nroutes: []\n");
        let config = Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).expect("valid");
        let (client, server) = duplex(64 * 1024);
        let (activity, phase) = (ConnectionActivity::new(), ProcessPhase::default());
        let connection =
            LingeringConnection::new(server, &config.limits, activity.clone(), phase.subscribe());
        Lingering { client, activity, phase, task: tokio::spawn(connection.run()), begun: Instant::now() }
    }

    impl Lingering {
        /// Sends `part` every `interval` until the connection is closed. Returns the bytes sent, and for how long.
        async fn send_until_closed(mut self, part: &[u8], interval: Duration) -> (usize, Duration) {
            let mut sent = 0;
            while self.client.write_all(part).await.is_ok() {
                sent += part.len();
                sleep(interval).await;
            }
            self.task.await.expect("no panic");
            (sent, self.begun.elapsed())
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_in_time() {
        let (_, took) = lingering("").send_until_closed(&[0; 10_000], SECOND).await;
        assert!((MAX_LINGER..=MAX_LINGER + SECOND).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_in_bytes() {
        let (sent, took) = lingering("").send_until_closed(&[0; 64 * 1024], Duration::ZERO).await;
        assert!((MAX_LINGER_BYTES..MAX_LINGER_BYTES + 256 * 1024).contains(&sent), "{sent}");
        assert!(took < SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_client_is_silent_or_too_slow() {
        let Lingering { task, begun, client, phase, .. } = lingering("");
        task.await.expect("no panic");
        assert_eq!(begun.elapsed().as_secs(), MAX_LINGER_IDLE.as_secs());
        drop((client, phase));
        let limits = "body_timeout: 2s, min_rate: 1KiB";
        let (_, took) = lingering(limits).send_until_closed(&[0; 50], SECOND / 10).await;
        assert!(took >= 2 * SECOND && took < 3 * SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_makes_room_for_other_connections() {
        let connection = lingering("");
        let activity = connection.activity.clone();
        tokio::spawn(async move {
            sleep(SECOND).await;
            assert!(activity.evict());
        });
        let (_, took) = connection.send_until_closed(&[0; 10_000], SECOND / 10).await;
        assert!(took >= SECOND && took < 2 * SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_soon_when_the_process_drains() {
        let connection = lingering("");
        assert!(connection.phase.advance(Phase::Draining));
        let (_, took) = connection.send_until_closed(&[0; 10_000], SECOND / 10).await;
        assert!(took >= IDLE_DRAIN_GRACE && took < IDLE_DRAIN_GRACE + SECOND, "{took:?}");
    }
}
