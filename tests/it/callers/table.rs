//! Combinations of routes, callers whose response is stored, callers who request it, and ways: nobody gets a byte that was
//! made for another, unknown, expired or refused caller, and whoever may have a hit has one.

use serde_json::json;

use super::{SECRET, token, token_signed_with};
use crate::support::{Answer, Larder, Received, Request, START, Upstream};

const ROUTES: &str = "
  - {path: '/members/{x}', callers: app, shared: true}
  - {path: '/both/{x}', callers: app, shared: signed-in, anonymous: share}
  - {path: '/mine/{x}', callers: app, per: jwt.sub}
  - {path: '/cohort/{x}', callers: app, per: [jwt.tenant, jwt.role], anonymous: share}
  - {path: '/token/{x}', callers: app, per: authorization}
  - {path: '/named/{x}', callers: app, per: identity}
";

const KINDS: [&str; 6] = ["members", "both", "mine", "cohort", "token", "named"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Ann,
    AnnsPhone,
    /// Ann's token that expires before it is used again.
    AnnsShort,
    /// In Ann's tenant.
    Bob,
    /// In another one.
    Eve,
    Forged,
    Unsigned,
    Expired,
    Stranger,
    Anonymous,
}

const CALLERS: [Caller; 10] = [
    Caller::Ann,
    Caller::AnnsPhone,
    Caller::AnnsShort,
    Caller::Bob,
    Caller::Eve,
    Caller::Forged,
    Caller::Unsigned,
    Caller::Expired,
    Caller::Stranger,
    Caller::Anonymous,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Fresh,
    /// Within `stale_while_revalidate`.
    Stale,
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
}

const WAYS: [Way; 9] = [
    Way::Fresh,
    Way::Stale,
    Way::Failing,
    Way::Head,
    Way::Range,
    Way::Conditional,
    Way::Variant,
    Way::Collapsed,
    Way::Validated,
];

impl Caller {
    /// The value of `Authorization` at a time.
    fn credential(self, now: u64) -> Option<String> {
        let claims = |sub: &str, tenant: &str, device: u64, end: u64| {
            json!({"sub": sub, "tenant": tenant, "role": "member", "exp": end, "device": device}).to_string()
        };
        let token = match self {
            Caller::Ann => token(&claims("ann", "t", 1, now + 1000)),
            Caller::AnnsPhone => token(&claims("ann", "t", 2, now + 1000)),
            Caller::AnnsShort => token(&claims("ann", "t", 3, now + 5)),
            Caller::Bob => token(&claims("bob", "t", 4, now + 1000)),
            Caller::Eve => token(&claims("eve", "other", 5, now + 1000)),
            Caller::Forged => token_signed_with(&SECRET.to_uppercase(), &claims("ann", "t", 1, now + 1000)),
            Caller::Unsigned => {
                let signed = token(&claims("ann", "t", 1, now + 1000));
                format!("{}.", signed.rsplit_once('.').expect("a signature").0)
            }
            Caller::Expired => token(&claims("ann", "t", 1, now)),
            Caller::Stranger => return Some("Basic YW5uOng=".to_owned()),
            Caller::Anonymous => return None,
        };
        Some(format!("Bearer {token}"))
    }

    fn is_known(self) -> bool {
        use Caller::{Ann, AnnsPhone, AnnsShort, Bob, Eve};
        matches!(self, Ann | AnnsPhone | AnnsShort | Bob | Eve)
    }

    fn is_ann(self) -> bool {
        matches!(self, Caller::Ann | Caller::AnnsPhone | Caller::AnnsShort)
    }

    /// Whether a response that was made for `other` may go to this caller.
    fn may_have(self, other: Caller, kind: &str) -> bool {
        let both_anonymous = self == Caller::Anonymous && other == Caller::Anonymous;
        match kind {
            "members" => self.is_known() && other.is_known(),
            "both" => self.is_known() && other.is_known() || both_anonymous,
            "mine" | "named" => {
                self.is_known() && other.is_known() && (self == other || self.is_ann() && other.is_ann())
            }
            "cohort" => {
                let same_tenant = (self == Caller::Eve) == (other == Caller::Eve);
                self.is_known() && other.is_known() && same_tenant || both_anonymous
            }
            "token" => self.is_known() && self == other,
            _ => false,
        }
    }
}

struct Row {
    kind: &'static str,
    first: Caller,
    second: Caller,
    way: Way,
}

/// Answers each caller with its own name, and refuses nobody: what larder lets through is seen.
fn answer(request: &Received) -> Answer {
    let who = request.header("x-test").unwrap_or_default();
    let answer = Answer::ok(format!("for <{who}>")).header("etag", "\"1\"").header("vary", "accept-language");
    match request.header("if-none-match") {
        Some(_) if request.target.contains("validated") => Answer::status(304).header("etag", "\"1\""),
        _ => answer,
    }
}

fn request(larder: &Larder, method: &str, path: &str, caller: Caller, credential: Option<&str>) -> Request {
    let request = larder.request(method, path).header("x-test", &format!("{caller:?}"));
    match credential {
        Some(credential) => request.header("authorization", credential),
        None => request,
    }
}

struct Stage {
    upstream: Upstream,
    larder: Larder,
    now: u64,
}

impl Stage {
    fn start() -> Self {
        let upstream = Upstream::start();
        let larder = Larder::with(
            &format!(
                "callers: {{app: {{jwt: {{secret: '{SECRET}'}}}}}}\n\
                 defaults: {{ttl: 60s, stale_while_revalidate: 60s, stale_if_error: 120s}}\nroutes:{ROUTES}"
            ),
            &upstream,
        );
        Self { upstream, larder, now: START.as_secs() }
    }

    fn after(&mut self, seconds: u64) {
        self.larder.after(seconds);
        self.now += seconds;
    }

    /// Plays a row; whether the second caller had a hit.
    async fn play(&mut self, row: &Row, number: usize) -> bool {
        let Row { kind, first, second, way } = *row;
        let path = format!("/{kind}/{}{number}", if way == Way::Validated { "validated" } else { "x" });
        self.upstream.on(&path, answer);
        let (one, other) = (first.credential(self.now), second.credential(self.now));
        let get = |larder: &Larder| request(larder, "GET", &path, first, one.as_deref());
        if way == Way::Collapsed {
            return self.play_collapsed(row, &path, (one.as_deref(), other.as_deref())).await;
        }
        let stored = get(&self.larder).await;
        assert_eq!(stored.text(), format!("for <{first:?}>"));
        self.after(match way {
            Way::Stale => 70,
            Way::Failing => 130,
            Way::Validated => 190,
            _ => 10,
        });
        if way == Way::Failing {
            self.upstream.on(&path, Answer::status(503));
        }
        let method = if way == Way::Head { "HEAD" } else { "GET" };
        let asked = request(&self.larder, method, &path, second, other.as_deref());
        let reply = match way {
            Way::Range => asked.header("range", "bytes=0-8").await,
            Way::Conditional => asked.header("if-none-match", "\"1\"").await,
            Way::Variant => asked.header("accept-language", "de").await,
            _ => asked.await,
        };
        self.check(row, &reply);
        reply.is_hit() || reply.cache_status("detail").as_deref() == Some("stale-if-error")
    }

    async fn play_collapsed(
        &self,
        row: &Row,
        path: &str,
        (one, other): (Option<&str>, Option<&str>),
    ) -> bool {
        let held = self.upstream.hold(path);
        let leader = request(&self.larder, "GET", path, row.first, one).spawn();
        held.arrived().await;
        let follower = request(&self.larder, "GET", path, row.second, other).spawn();
        if row.second.may_have(row.first, row.kind) {
            self.larder.metric_becomes("larder_followers", 1.0).await;
        }
        held.release();
        assert_eq!(leader.await.unwrap().text(), format!("for <{:?}>", row.first));
        let reply = follower.await.unwrap();
        self.check(row, &reply);
        reply.text() == format!("for <{:?}>", row.first)
    }

    fn check(&self, row: &Row, reply: &crate::support::Reply) {
        let Row { kind, first, second, way } = *row;
        let says = format!("/{kind} of {first:?} to {second:?}, {way:?}: {reply}");
        let made_for_first = format!("for <{first:?}>");
        let expired = second == Caller::AnnsShort && !matches!(way, Way::Collapsed);
        let may = second.may_have(first, kind) && !expired;
        let is_answered_from_store = reply.is_hit()
            || reply.cache_status("detail").as_deref() == Some("stale-if-error")
            || reply.cache_status("fwd-status").as_deref() == Some("304");
        if !may {
            assert!(!is_answered_from_store, "{says}");
            let own = format!("for <{second:?}>");
            let is_own = first == second
                || !reply.text().starts_with(made_for_first.as_str())
                || own == made_for_first;
            assert!(is_own, "{says}");
        }
    }
}

#[tokio::test]
async fn nobody_gets_a_byte_that_was_made_for_another() {
    let mut stage = Stage::start();
    let (mut rows, mut hits, mut allowed) = (0, 0, 0);
    for (k, kind) in KINDS.into_iter().enumerate() {
        for (f, first) in [Caller::Ann, Caller::Bob, Caller::Eve, Caller::Anonymous].into_iter().enumerate() {
            for (s, second) in CALLERS.into_iter().enumerate() {
                // A third of all ways, each with every pair of callers on some route.
                for (_, way) in WAYS.into_iter().enumerate().filter(|(w, _)| (k + f + s + w) % 3 == 0) {
                    rows += 1;
                    let row = Row { kind, first, second, way };
                    let hit = stage.play(&row, rows).await;
                    let expires = second == Caller::AnnsShort && way != Way::Collapsed;
                    let may = second.may_have(first, kind) && !expires;
                    let should = may && !matches!(way, Way::Variant | Way::Validated);
                    assert!(hit || !should, "/{kind} of {first:?} to {second:?}, {way:?}: no hit");
                    hits += usize::from(hit);
                    allowed += usize::from(may);
                }
            }
        }
    }
    assert!(rows >= 700 && allowed > 100 && hits > 70, "{rows} rows, {allowed} allowed, {hits} hits");
}
