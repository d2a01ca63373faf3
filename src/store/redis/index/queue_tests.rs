//! The turns of purges that wait for room.

use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::purge::{IntentId, PurgeIntent, PurgeMode, Target, TargetId};
use crate::store::redis::index::purge_call::RecordKind;
use crate::tasks::spawn;

const SECOND: Duration = Duration::from_secs(1);

fn ids(from: usize, count: usize) -> Vec<TargetId> {
    let mut ids: Vec<_> = (from..from + count).map(|number| Target::tag(number.to_string()).id()).collect();
    ids.sort_unstable();
    ids
}

fn purge(targets: Vec<TargetId>) -> PurgeCall {
    PurgeCall {
        targets,
        kind: RecordKind::Purge(PurgeMode::Hard),
        in_doubt_for: Duration::ZERO,
        resolves: None,
        audit: Vec::new(),
    }
}

/// Waits as a task of its own, and has taken its place in the queue when this returns.
async fn join_queue(queue: &Arc<PurgeQueue>, call: PurgeCall) -> JoinHandle<Option<Turn>> {
    let (waiting, before) = (queue.clone(), places(queue));
    let waiting = spawn(async move { waiting.wait(call).await });
    while places(queue) == before {
        yield_now().await;
    }
    waiting
}

fn places(queue: &PurgeQueue) -> (usize, usize) {
    let state = queue.state();
    (state.waiting.len(), state.in_flight)
}

async fn sends(queue: &Arc<PurgeQueue>, call: PurgeCall) -> JoinedCall {
    match queue.wait(call).await {
        Some(Turn::Send(joined)) => joined,
        _ => panic!("another sends it"),
    }
}

async fn is_sent(waiting: JoinHandle<Option<Turn>>) -> JoinedCall {
    match waiting.await.expect("no panic") {
        Some(Turn::Send(joined)) => joined,
        _ => panic!("another sends it"),
    }
}

async fn is_told(waiting: JoinHandle<Option<Turn>>) -> Result<PurgeVersion, RedisError> {
    match waiting.await.expect("no panic") {
        Some(Turn::Sent(result)) => result,
        Some(Turn::Send(_)) => panic!("it is to be sent alone"),
        None => panic!("its caller has gone"),
    }
}

#[tokio::test]
async fn what_has_room_is_sent_alone() {
    let queue = Arc::new(PurgeQueue::default());
    let first = sends(&queue, purge(ids(0, 100))).await;
    let second = sends(&queue, purge(ids(0, 100))).await;
    assert_eq!((first.call.targets.len(), second.call.targets.len()), (100, 100));
    let large = join_queue(&queue, purge(ids(0, 100))).await;
    drop(first);
    assert_eq!(queue.state().in_flight, 100, "it goes when all are done");
    drop(second);
    assert_eq!(is_sent(large).await.call.targets.len(), 100);
}

#[tokio::test]
async fn purges_that_wait_are_one_script_and_all_are_told() {
    let queue = Arc::new(PurgeQueue::default());
    let first = sends(&queue, purge(ids(0, MAX_TARGETS_IN_FLIGHT))).await;
    // Each names ten targets that no other names, and ten that all name.
    let named = |number: usize| [ids(10 * number, 10), ids(1000, 10)].concat();
    let mut waiting = Vec::new();
    for number in 0..12 {
        waiting.push(join_queue(&queue, purge(named(number))).await);
    }
    assert_eq!(queue.state().in_flight, MAX_TARGETS_IN_FLIGHT, "nothing is sent meanwhile");
    first.finish(&Ok(PurgeVersion(1)));
    let mut waiting = waiting.into_iter();
    let joined = is_sent(waiting.next().expect("twelve")).await;
    let mut expected = [ids(0, 120), ids(1000, 10)].concat();
    expected.sort_unstable();
    assert_eq!(joined.call.targets, expected);
    joined.finish(&Ok(PurgeVersion(7)));
    for one in waiting {
        assert_eq!(is_told(one).await, Ok(PurgeVersion(7)));
    }
    assert_eq!(queue.state().in_flight, 0);
}

#[tokio::test]
async fn no_more_targets_are_on_their_way_than_there_is_room_for() {
    let queue = Arc::new(PurgeQueue::default());
    let mut sending = vec![sends(&queue, purge(ids(0, 200))).await];
    let mut waiting = Vec::new();
    for number in 1..40 {
        waiting.push(join_queue(&queue, purge(ids(100 * number, 60))).await);
    }
    let mut scripts = 0;
    while let Some(sent) = sending.pop() {
        scripts += 1;
        assert!(sent.call.targets.len() <= MAX_TARGETS_IN_FLIGHT);
        assert!(queue.state().in_flight <= MAX_TARGETS_IN_FLIGHT);
        sent.finish(&Ok(PurgeVersion(scripts)));
        let mut rest = Vec::new();
        for mut one in waiting {
            tokio::select! {
                biased;
                turn = &mut one => match turn.expect("no panic") {
                    Some(Turn::Send(joined)) => sending.push(joined),
                    turn => assert!(turn.is_some()),
                },
                () = async { for _ in 0..3 { yield_now().await } } => rest.push(one),
            }
        }
        waiting = rest;
    }
    assert!(waiting.is_empty());
    // 39 of 60 targets, four at a time.
    assert_eq!(scripts, 11);
}

/// One script can't do these for both, so each has its own turn.
#[tokio::test]
async fn purges_of_another_kind_are_not_joined() {
    let queue = Arc::new(PurgeQueue::default());
    let first = sends(&queue, purge(ids(0, MAX_TARGETS_IN_FLIGHT))).await;
    let intent = PurgeIntent { id: IntentId([1; 8]), targets: ids(0, 1), expires_in: SECOND };
    let others = [
        PurgeCall { kind: RecordKind::Purge(PurgeMode::Soft), ..purge(ids(1, 1)) },
        PurgeCall { in_doubt_for: SECOND, ..purge(ids(2, 1)) },
        PurgeCall { resolves: Some(intent.clone()), ..purge(ids(3, 1)) },
        PurgeCall { resolves: Some(intent.clone()), ..purge(ids(4, 1)) },
        PurgeCall { kind: RecordKind::Intent(intent.id), ..purge(ids(5, 1)) },
        PurgeCall { kind: RecordKind::Intent(intent.id), ..purge(ids(6, 1)) },
    ];
    let mut waiting = vec![join_queue(&queue, purge(ids(7, 1))).await];
    for other in others.clone() {
        waiting.push(join_queue(&queue, other).await);
    }
    let last = join_queue(&queue, purge(ids(8, 1))).await;
    drop(first);
    let mut sizes = Vec::new();
    for one in waiting {
        let joined = is_sent(one).await;
        sizes.push(joined.call.targets.len());
        joined.finish(&Ok(PurgeVersion(1)));
    }
    assert_eq!(sizes, [2, 1, 1, 1, 1, 1, 1]);
    assert_eq!(is_told(last).await, Ok(PurgeVersion(1)));
}

/// A caller that goes leaves its room to others, and those who joined it are told.
#[tokio::test]
async fn a_caller_that_goes_holds_up_nobody() {
    let queue = Arc::new(PurgeQueue::default());
    let first = sends(&queue, purge(ids(0, MAX_TARGETS_IN_FLIGHT))).await;
    let gone = join_queue(&queue, purge(ids(0, 10))).await;
    let second = join_queue(&queue, purge(ids(0, 10))).await;
    let third = join_queue(&queue, purge(ids(0, 10))).await;
    gone.abort();
    assert!(gone.await.is_err());
    drop(first);
    drop(is_sent(second).await);
    assert!(third.await.expect("no panic").is_none());
    assert_eq!(queue.state().in_flight, 0);
    assert_eq!(sends(&queue, purge(ids(0, 10))).await.call.targets.len(), 10);
}
