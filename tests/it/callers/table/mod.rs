//! Combinations of routes, callers whose response is stored, callers who request it, and ways: nobody gets a byte that was
//! made for another, unknown, expired, logged-out or refused caller, and whoever may have a hit has one. Callers are known by
//! their tokens, by asking for them, and at two replicas that share a Redis.

mod caller;
mod stage;

use caller::{CLIENTS, Caller};
use stage::{Stage, World};

const KINDS: [&str; 6] = ["members", "both", "mine", "cohort", "token", "named"];

/// Routes without `callers`, and those whose callers' token is in a cookie or in a field of its own.
const MORE_KINDS: [&str; 5] = ["open", "plain", "field", "cookie", "header"];

/// The first is signed in Redis, the others are encrypted.
const KINDS_AT_REST: [&str; 3] = ["members", "mine", "field"];

/// Those that need no claims.
const KINDS_OF_SESSIONS: [&str; 4] = ["members", "both", "token", "named"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Fresh,
    /// Within `stale_while_revalidate`.
    Stale,
    /// The same, and the one who was first asks again once the response is refreshed.
    Refreshed,
    /// Within `stale_if_error`, and the upstream is down.
    Failing,
    Head,
    Range,
    Conditional,
    /// Another variant by `Accept-Language`.
    Variant,
    /// While the first one's fetch is under way.
    Collapsed,
    /// When the response has expired and its validator holds.
    Validated,
    /// After the first one has logged out.
    LoggedOut,
    /// It was warmed: larder is the first.
    Warmed,
    /// The service that knows callers fails meanwhile.
    Unanswered,
    /// The API answers the first one with 403.
    Forbidden,
    /// Within `stale_while_revalidate`, and the API has answered a refresh for the first one with 403.
    Withdrawn,
}

use Way::{
    Collapsed, Conditional, Failing, Forbidden, Fresh, Head, LoggedOut, Range, Refreshed, Stale, Unanswered,
    Validated, Variant, Warmed, Withdrawn,
};

const WAYS: [Way; 15] = [
    Fresh,
    Stale,
    Failing,
    Head,
    Range,
    Conditional,
    Variant,
    Collapsed,
    Validated,
    LoggedOut,
    Refreshed,
    Warmed,
    Unanswered,
    Forbidden,
    Withdrawn,
];

/// Those that are played there.
fn ways(world: World) -> impl Iterator<Item = Way> {
    WAYS.into_iter().filter(move |way| match way {
        Unanswered => world == World::Sessions,
        Variant | Validated => world != World::Sessions,
        _ => true,
    })
}

#[derive(Clone, Copy, Debug)]
struct Row {
    world: World,
    kind: &'static str,
    first: Caller,
    second: Caller,
    way: Way,
}

impl Row {
    /// Whether the second caller may have what was made for the first.
    fn is_allowed(&self) -> bool {
        let Row { world, kind, first, second, way } = *self;
        let is_late = !second.has_time(kind) && way != Collapsed;
        let is_withdrawn = match way {
            LoggedOut if first == Caller::Anonymous => false,
            // A token is good until its `exp`, a session until its logout.
            LoggedOut => stage::has_caller_tag(kind) || world == World::Sessions && first == second,
            Unanswered => second != Caller::Anonymous,
            // Not stored, as it says nothing of its lifetime.
            Forbidden => true,
            Withdrawn => stage::is_ended_by_refusal(kind),
            _ => false,
        };
        second.may_have(first, kind) && !is_late && !is_withdrawn
    }

    /// Whether the second caller must have a hit.
    fn is_hit_expected(&self) -> bool {
        // A request that another replica has only just answered may be fetched again.
        let may_be_late = self.world.is_replicated() && self.way == Collapsed;
        self.is_allowed() && !may_be_late && !matches!(self.way, Variant | Validated)
    }
}

/// Plays a third of all rows, each way with every pair of callers on some route.
async fn play(stage: &mut Stage, kinds: &[&'static str], clients: &[Caller]) {
    let (mut rows, mut hits, mut allowed) = (0, 0, 0);
    for (k, kind) in kinds.iter().copied().enumerate() {
        for (f, first) in [Caller::Ann, Caller::Bob, Caller::Eve, Caller::Anonymous].into_iter().enumerate() {
            for (s, second) in clients.iter().copied().enumerate() {
                for (_, way) in ways(stage.world).enumerate().filter(|(w, _)| (k + f + s + w) % 3 == 0) {
                    rows += 1;
                    let first = if way == Warmed { Caller::Larder } else { first };
                    let row = Row { world: stage.world, kind, first, second, way };
                    let hit = stage.play(&row, rows).await;
                    assert!(hit || !row.is_hit_expected(), "{row:?}: no hit");
                    hits += usize::from(hit);
                    allowed += usize::from(row.is_allowed());
                }
            }
        }
    }
    assert!(rows >= 400 && allowed > 60 && hits > 40, "{rows} rows, {allowed} allowed, {hits} hits");
}

#[tokio::test]
async fn nobody_gets_a_byte_that_was_made_for_another() {
    let mut stage = Stage::start(World::Tokens).await;
    play(&mut stage, &KINDS, &CLIENTS).await;
}

#[tokio::test]
async fn nobody_gets_a_byte_of_another_by_cookie_or_without_callers() {
    let mut stage = Stage::start(World::Tokens).await;
    play(&mut stage, &MORE_KINDS, &CLIENTS).await;
}

#[tokio::test]
async fn nobody_gets_a_byte_of_another_whose_session_is_asked_for() {
    let mut stage = Stage::start(World::Sessions).await;
    play(&mut stage, &KINDS_OF_SESSIONS, &CLIENTS).await;
}

#[tokio::test]
async fn nobody_gets_a_byte_of_another_at_another_replica() {
    let mut stage = Stage::start(World::Replicas).await;
    // Real time passes, so nobody's token is about to expire.
    let clients: Vec<_> = CLIENTS.into_iter().filter(|caller| *caller != Caller::AnnsShort).collect();
    play(&mut stage, &KINDS, &clients).await;
}

#[tokio::test]
async fn nobody_gets_a_byte_of_another_that_is_encrypted() {
    let mut stage = Stage::start(World::Sealed).await;
    let clients: Vec<_> = CLIENTS.into_iter().filter(|caller| *caller != Caller::AnnsShort).collect();
    play(&mut stage, &KINDS_AT_REST, &clients).await;
}
