//! Chooses the instance of the upstream for each request, and decides whether a request that failed goes to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;

use super::breaker::SentRequest;
use super::destination::Destination;
use super::failure::SendFailure;
use super::instance::Instance;
use super::pool::ConnectionPool;
use super::protocols::Protocols;
use super::request_body::RequestBody;
use super::{UpstreamError, is_repeatable};

/// The number of instances that one request is sent to because no connection to the others could be made.
const MAX_UNREACHABLE: u32 = 3;

/// The number of times that a request is sent again which the upstream did not process.
const MAX_REPLAYS: usize = 3;

/// One worker's connections to one instance.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) instance: Arc<Instance>,
    pub(super) pool: Arc<ConnectionPool>,
}

/// One worker's instances.
pub(super) struct Balancer {
    /// The destination's instances that `members` were made from.
    instances: Arc<Vec<Arc<Instance>>>,
    members: Vec<Member>,
    /// The instance that the next choice begins with, so that equals take turns.
    next: AtomicUsize,
}

/// The attempts of one request so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// A bit for each instance that failed.
    failed: u64,
    replays: usize,
    is_failed_over: bool,
    probe: Option<InstanceProbe>,
}

/// The one request at a time that finds out if an instance is back.
#[derive(Debug)]
struct InstanceProbe(Arc<Instance>);

impl Drop for InstanceProbe {
    fn drop(&mut self) {
        self.0.breaker.end_probe();
    }
}

impl Attempts {
    pub(super) fn is_first(&self) -> bool {
        self.failed == 0 && self.replays == 0
    }
}

impl Balancer {
    /// Balances over the destination's instances. Those that `before` had keep their connections.
    pub(super) fn new(destination: &Destination, before: Option<&Self>) -> Self {
        let settings = &destination.settings;
        let protocols = if settings.http2 { Protocols::Http2 } else { Protocols::Http1 };
        let instances = destination.instances();
        let known = |instance| before?.members.iter().find(|it| Arc::ptr_eq(&it.instance, instance)).cloned();
        let member = |instance: &Arc<Instance>| Member {
            instance: instance.clone(),
            pool: ConnectionPool::new(instance.connector.clone(), protocols, settings.idle_timeout),
        };
        let members = instances.iter().map(|instance| known(instance).unwrap_or_else(|| member(instance)));
        Self { members: members.collect(), instances, next: AtomicUsize::new(0) }
    }

    pub(super) fn is_up_to_date_with(&self, destination: &Destination) -> bool {
        destination.has_instances(&self.instances)
    }

    /// Returns whether some instance may be sent a request, as far as is known before one is chosen.
    pub(super) fn may_send(&self) -> bool {
        self.members.iter().any(|member| member.instance.breaker.may_allow_request())
    }

    /// Chooses the instance with the fewest requests in flight among those whose last request did not fail; if there is
    /// none, among those whose circuit breaker is closed. Only a first attempt probes an instance that failed while others
    /// answer. `None`: no instance is left.
    pub(super) fn choose(&self, attempts: &mut Attempts, request: &Request<RequestBody>) -> Option<usize> {
        attempts.probe = None;
        if let [member] = &self.members[..] {
            return (attempts.failed == 0 && member.instance.breaker.allows_request()).then_some(0);
        }
        let breaker = |at: &usize| &self.members[*at].instance.breaker;
        let least_loaded = |candidates: &mut dyn Iterator<Item = usize>| {
            candidates.min_by_key(|at| self.members[*at].instance.in_flight())
        };
        let mut left = self.untried(attempts.failed);
        let healthy = least_loaded(&mut left.clone().filter(|at| !breaker(at).is_suspect()));
        if healthy.is_some() {
            let may_repeat = is_repeatable(request);
            let mut probes = left.filter(|_| attempts.is_first());
            let probed = probes.find(|at| breaker(at).begin_probe(may_repeat));
            attempts.probe = probed.map(|at| InstanceProbe(self.members[at].instance.clone()));
            return probed.or(healthy);
        }
        least_loaded(&mut left.clone().filter(|at| !breaker(at).is_open()))
            .or_else(|| left.find(|at| breaker(at).allows_request()))
    }

    pub(super) fn record_success(&self, at: usize) {
        let Instance { breaker, name, .. } = &*self.members[at].instance;
        if breaker.record_success() && self.members.len() > 1 {
            tracing::info!(upstream = name, "upstream instance answers again");
        }
    }

    /// Records a failure to connect, or to answer a first attempt in time: later attempts have less. An instance that
    /// ends a new connection without an answer is suspect. After any other failure it is there, whatever it does.
    pub(super) fn record_failure(
        &self,
        (at, sent): (usize, SentRequest),
        attempts: &Attempts,
        failure: &SendFailure,
    ) {
        let error = &failure.error;
        let Instance { breaker, name, .. } = &*self.members[at].instance;
        let is_first_in_row = match error {
            UpstreamError::Unreachable(_) => breaker.record_unreachable(sent),
            UpstreamError::Timeout => attempts.is_first() && breaker.record_timeout(sent),
            UpstreamError::Closed | UpstreamError::TlsRefused(_) if failure.is_new_connection => {
                breaker.record_closed(sent)
            }
            _ => false,
        };
        if is_first_in_row && self.members.len() > 1 {
            tracing::warn!(upstream = name, %error, "upstream instance failed: others are preferred");
        }
    }

    /// Decides about a request that an instance failed to answer, and returns it if it is sent again. `copy`: the request,
    /// if its content is known. A request that may have been sent is repeated only if that does no harm.
    pub(super) fn retry(
        &self,
        attempts: &mut Attempts,
        at: usize,
        failure: &mut SendFailure,
        copy: Option<Box<Request<RequestBody>>>,
    ) -> Option<Box<Request<RequestBody>>> {
        if let Some(unsent) = failure.unsent.take() {
            attempts.failed |= 1 << at;
            return (attempts.failed.count_ones() < MAX_UNREACHABLE).then_some(unsent);
        }
        let copy = copy.filter(|copy| copy.body().can_begin_again());
        let is_safe = copy.as_ref().is_some_and(|copy| is_repeatable(copy));
        let again = failure.is_unprocessed && attempts.replays < MAX_REPLAYS
            || failure.is_stale_connection && is_safe && attempts.replays == 0;
        if again {
            attempts.replays += 1;
            return copy;
        }
        let fails_over = self.members.len() > 1 && failure.is_closed() && is_safe && !attempts.is_failed_over;
        attempts.is_failed_over |= fails_over;
        attempts.failed |= 1 << at;
        copy.filter(|_| fails_over)
    }

    pub(super) fn member(&self, at: usize) -> &Member {
        &self.members[at]
    }

    /// The instances that did not fail, each time from another one on.
    fn untried(&self, failed: u64) -> impl Iterator<Item = usize> + Clone + use<> {
        let count = self.members.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..count).map(move |at| (first.wrapping_add(at)) % count).filter(move |at| failed & (1 << at) == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    /// Four instances, of which only the last did not fail a minute ago.
    async fn balancer() -> Balancer {
        let yaml = "upstream: ['http://a:1', 'http://a:2', 'http://a:3', 'http://a:4']\nroutes: []\n";
        let config = Config::parse(yaml, "proxy.yaml", &|_| None, &Default::default()).expect("valid");
        let balancer = Balancer::new(&Destination::new(&config.upstream).expect("valid"), None);
        let unreachable = UpstreamError::Unreachable("gone".into());
        (0..3).for_each(|at| {
            let sent = balancer.member(at).instance.breaker.begin_request(Duration::from_secs(30));
            balancer.record_failure((at, sent), &Attempts::default(), &SendFailure::new(unreachable.clone()));
        });
        tokio::time::advance(Duration::from_secs(60)).await;
        balancer
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_probes_once_and_then_goes_to_one_that_answers() {
        let balancer = balancer().await;
        let request = Request::new(RequestBody::empty());
        for _ in 0..3 {
            let mut attempts = Attempts::default();
            let probed = balancer.choose(&mut attempts, &request).expect("an instance");
            assert!(probed < 3);
            attempts.failed |= 1 << probed;
            assert_eq!(balancer.choose(&mut attempts, &request), Some(3));
        }
        assert_eq!(balancer.choose(&mut Attempts::default(), &request), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_ends_new_connections_is_avoided() {
        let balancer = balancer().await;
        let closed =
            |is_new_connection| SendFailure { is_new_connection, ..SendFailure::new(UpstreamError::Closed) };
        let breaker = &balancer.member(3).instance.breaker;
        let sent = breaker.begin_request(Duration::from_secs(30));
        balancer.record_failure((3, sent), &Attempts::default(), &closed(false));
        assert!(!breaker.is_suspect(), "it closed an idle connection");
        for _ in 0..100 {
            balancer.record_failure((3, sent), &Attempts::default(), &closed(true));
        }
        assert!(breaker.is_suspect() && !breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_hangs_is_probed_by_one_request_at_a_time() {
        let balancer = balancer().await;
        let request = Request::new(RequestBody::empty());
        let mut hanging: Vec<Attempts> = Vec::new();
        for _ in 0..10 {
            let mut attempts = Attempts::default();
            let chosen = balancer.choose(&mut attempts, &request).expect("an instance");
            assert_eq!(chosen < 3, hanging.len() < 3, "one for each");
            if chosen < 3 {
                hanging.push(attempts);
            }
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        hanging.pop();
        assert!(
            balancer.choose(&mut Attempts::default(), &request).expect("an instance") < 3,
            "it has ended"
        );
    }
}
