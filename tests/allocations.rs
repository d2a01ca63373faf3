//! How often a hit allocates, all of it: reading the request, finding the response, writing the answer. A test binary of
//! its own, since it counts by way of the allocator.

#[path = "../benches/instructions/client.rs"]
#[expect(dead_code, reason = "the benchmark asks more")]
mod client;

use std::net::SocketAddr;
use std::thread;

use client::Client;
use larder::clock::Clock;
use larder::config::{Config, Listen};
use larder::server::{Listener, Listeners};
use tokio::sync::oneshot;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The parser's: the names of three fields that HTTP does not know. larder's: the host; the parts of the key; the map of the
/// stored fields, in two parts; the value of `Cache-Status`. That of an `Age` below 1,000 s needs none.
const ALLOCATIONS_OF_A_HIT: u64 = 8;

/// A hit on one route among so many, of one response among so many.
fn allocations(routes: usize, entries: usize) -> u64 {
    let hits = |count: usize| count_allocations(routes, entries, count).expect("it runs");
    // The difference removes the costs of starting and ending a run; rare allocations are less than one a hit.
    (hits(3_000) - hits(1_000) + 1_000) / 2_000
}

/// All that the serving thread allocates from its start to its end.
fn count_allocations(routes: usize, entries: usize, hits: usize) -> Result<u64, Failure> {
    let upstream = client::upstream()?;
    let listener = Listener::bind(&Listen::Tcp(([127, 0, 0, 1], 0).into()))?;
    let Listen::Tcp(address) = listener.local_addr()? else { return Err("not TCP".into()) };
    let config = config(upstream, routes)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = thread::spawn(move || {
        // On one core there is one worker: this thread, which is the one that is counted.
        let mut core = rustix::thread::CpuSet::new();
        core.set(0);
        rustix::thread::sched_setaffinity(None, &core).expect("core 0 is there");
        let listeners = Listeners { proxy: vec![listener], admin: None, outlive_process: false };
        let shutdown = async { drop(stopped.await) };
        let counted = allocation_counter::measure(|| {
            larder::run(config, listeners, Clock::system(), shutdown).expect("it serves");
        });
        counted.count_total
    });
    let mut client = Client::connect(address)?;
    for entry in (0..entries).chain((0..hits).map(|hit| hit * 7919 % entries)) {
        client.get(&format!("/api/things-{}/{entry}/1", routes / 2))?;
    }
    drop((client, stop));
    serving.join().map_err(|_| "the thread panicked".into())
}

fn config(upstream: SocketAddr, routes: usize) -> Result<Config, Failure> {
    let routes: String = (0..routes)
        .map(|n| {
            format!("  - {{path: '/api/things-{n}/{{id}}/{{tags}}', ttl: 1h, tags: ['thing:{{id}}']}}\n")
        })
        .collect();
    let yaml = format!("upstream: http://{upstream}\nroutes:\n{routes}");
    Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default())
        .map_err(|errors| errors.to_string().into())
}

#[test]
fn allocations_of_a_hit_do_not_grow_with_the_store() {
    assert_eq!(allocations(10, 10), ALLOCATIONS_OF_A_HIT);
    assert_eq!(allocations(1_000, 10), ALLOCATIONS_OF_A_HIT, "a hundred times the routes");
    assert_eq!(allocations(10, 1_000), ALLOCATIONS_OF_A_HIT, "a hundred times the responses");
}
