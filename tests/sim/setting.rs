//! The setting of a simulation: how larder is configured, which faults there are, for how long.

use std::sync::OnceLock;
use std::time::Duration;

use larder::config::{Config, OnStoreLoss, StoreSettings};
use larder::purge::IndexBounds;

use crate::dice::Dice;
use crate::faults::Kind;
use crate::history::{Duty, Read};
use crate::scenes::Scene;

#[derive(Clone, Debug)]
pub struct Setting {
    pub replicas: usize,
    /// Zero: strict.
    pub max_lag: Duration,
    /// `on_store_loss: serve`; zero: `bypass`.
    pub serve: Duration,
    pub guarded: bool,
    pub leases: bool,
    /// Items are also changed behind larder's back, and announced on a stream.
    pub has_events: bool,
    /// The upstream's reads are up to this old.
    pub settle: Duration,
    pub ttl: Duration,
    /// For so long after its freshness a response may be validated.
    pub stale: Duration,
    pub has_local_tier: bool,
    /// Requests join the fetch of another one.
    pub collapses: bool,
    /// Tags are known when the whole body is there.
    pub has_body_tags: bool,
    /// A small index, which folds its records.
    pub is_small: bool,
    pub lasts: Duration,
    /// One acknowledgement of so many is followed by a wait until it is applied.
    pub waits: u64,
    pub faults: Vec<Kind>,
    pub clients: u64,
    pub scene: Option<Scene>,
}

impl Setting {
    pub fn draw(dice: &mut Dice) -> Self {
        let is_strict = dice.one_in(2);
        let guarded = dice.one_in(3);
        let settle = if dice.one_in(4) { dice.millis(50, 250) } else { Duration::ZERO };
        let mut faults = Vec::new();
        for _ in 0..dice.below(6) {
            faults.push(*dice.pick(Kind::ALL));
        }
        // The promises of dates hold as long as the clock of the server runs.
        if guarded || !settle.is_zero() {
            faults.retain(|kind| *kind != Kind::ClockSteps);
        }
        let usual = Self {
            replicas: dice.below(2) + 2,
            max_lag: if is_strict { Duration::ZERO } else { dice.millis(40, 400) },
            serve: if dice.one_in(6) { dice.millis(200, 800) } else { Duration::ZERO },
            guarded,
            leases: dice.one_in(4),
            has_events: dice.one_in(4),
            settle,
            ttl: dice.millis(300, 3000),
            stale: if dice.one_in(2) { dice.millis(0, 1000) } else { Duration::ZERO },
            has_local_tier: !dice.one_in(6),
            collapses: dice.branch(3).one_in(2),
            has_body_tags: dice.branch(4).one_in(2),
            is_small: dice.one_in(5),
            lasts: dice.millis(600, 1600),
            waits: 3,
            faults,
            clients: 4,
            scene: None,
        };
        usual.with_theme(dice).with_leaving(&mut dice.branch(7)).with_scene(&mut dice.branch(8))
    }

    /// A scene has fewer clients and one fault at most beside it, so that it mostly comes to its end.
    fn with_scene(mut self, dice: &mut Dice) -> Self {
        if !dice.one_in(6) {
            return self;
        }
        let scene = *dice.pick(Scene::ALL);
        self.scene = Some(scene);
        self.faults.retain(|kind| !kind.loses_the_index() && *kind != Kind::ClockSteps);
        self.faults.truncate(dice.below(2));
        if scene == Scene::LostDoubt {
            // A replica that is unavailable would tell the new index of the doubt too late.
            self.faults.clear();
        }
        (self.clients, self.lasts) = (2, dice.millis(500, 900));
        (self.ttl, self.serve, self.settle) = (dice.millis(1000, 3000), Duration::ZERO, Duration::ZERO);
        (self.guarded, self.has_events) = (scene == Scene::WriteAfterItsMark, scene == Scene::UnreadEvent);
        match scene {
            Scene::UnreadEvent => self.lasts = dice.millis(900, 1300),
            Scene::WriteAfterItsMark => self.max_lag = Duration::ZERO,
            Scene::FoldedDoubt => self.is_small = true,
            Scene::LostDoubt => self.is_small = false,
            Scene::ConfirmedAsItLeft => {
                (self.max_lag, self.waits, self.has_local_tier) = (dice.millis(300, 900), 1, true);
            }
        }
        self
    }

    /// Replicas that end and come back, and now and then one that nobody hears of for longer than it stays on the roll.
    fn with_leaving(mut self, dice: &mut Dice) -> Self {
        if dice.one_in(6) {
            self.faults.extend([Kind::ReplicaLeaves; 2]);
        }
        if dice.branch(1).one_in(15) {
            self.faults.push(Kind::FormerPrimaryGoesOn);
        }
        if dice.one_in(60) {
            self.faults.push(*dice.pick(&[Kind::ReplicaUnheard, Kind::ReplicaAsleep]));
            self.lasts = dice.millis(6500, 7500);
        }
        self
    }

    /// Every other setting brings together what is rarely together by chance.
    fn with_theme(mut self, dice: &mut Dice) -> Self {
        match dice.below(8) {
            // Replicas that have lost touch, and an index that is lost.
            0 => {
                let lost = *dice.pick(&[Kind::RedisFlushed, Kind::RedisEvictsIndex, Kind::FailoverWhole]);
                let away = *dice.pick(&[Kind::PathSilent, Kind::PathCut, Kind::PathLossy]);
                self.faults.extend([lost, lost, away, away]);
                (self.max_lag, self.waits) = (dice.millis(300, 900), 1);
                (self.ttl, self.has_local_tier) = (Duration::from_secs(3), true);
            }
            // Marks that expire.
            1 => {
                self.faults.retain(|kind| !kind.loses_the_index() && *kind != Kind::ClockSteps);
                self.faults.extend([Kind::ReplicaFrozen, Kind::ReplicaPausedBeforeSend]);
                self.faults.extend([Kind::ReplicaPausedBeforeSend, Kind::ReplicaPausedBeforeSend]);
                self.faults.extend([Kind::UpstreamSlow, Kind::UpstreamSlow, Kind::ReplicaKilled]);
                (self.max_lag, self.serve, self.settle) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
                (self.guarded, self.has_events) = (true, false);
            }
            // Copies that lag.
            2 => {
                self.faults.retain(|kind| *kind != Kind::ClockSteps);
                self.faults.push(Kind::UpstreamCuts);
                self.settle = dice.millis(50, 250);
            }
            3 => self.faults.extend([Kind::Reload, Kind::Reload, Kind::RollingDeployment]),
            // Rules that join while guarded writes are under way.
            4 => {
                self.faults.retain(|kind| !kind.loses_the_index() && *kind != Kind::ClockSteps);
                self.faults.extend([Kind::RollingDeployment, Kind::RollingDeployment, Kind::Reload]);
                self.faults.extend([Kind::RollingDeployment, Kind::UpstreamSlow, Kind::UpstreamSlow]);
                (self.max_lag, self.serve, self.settle) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
                (self.guarded, self.has_events) = (true, false);
            }
            _ if dice.branch(1).one_in(4) => self.with_rules_that_change_in_outages(&mut dice.branch(2)),
            _ if dice.branch(5).one_in(3) => self.with_doubts_that_are_lost(&mut dice.branch(6)),
            _ => {}
        }
        self
    }

    /// Writes with an unknown outcome, which a small index folds, or which the index is lost with.
    fn with_doubts_that_are_lost(&mut self, dice: &mut Dice) {
        self.faults.retain(|kind| *kind != Kind::ClockSteps);
        self.faults.extend([Kind::UpstreamCuts; 4]);
        self.is_small = dice.one_in(2);
        if !self.is_small {
            let lost = *dice.pick(&[Kind::RedisFlushed, Kind::RedisEvictsIndex, Kind::FailoverWhole]);
            self.faults.extend([lost; 3]);
        }
        (self.ttl, self.has_local_tier, self.guarded) = (Duration::from_secs(3), true, false);
        self.settle = Duration::ZERO;
    }

    /// Purges that wait for Redis while the rules change.
    fn with_rules_that_change_in_outages(&mut self, dice: &mut Dice) {
        let away = *dice.pick(&[Kind::PathSilent, Kind::PathCut, Kind::RedisHangs]);
        self.faults.retain(|kind| *kind != Kind::ClockSteps && !kind.loses_the_index());
        self.faults.extend([away, away, Kind::PathCut, Kind::Reload, Kind::Reload, Kind::RollingDeployment]);
        self.has_local_tier = true;
    }

    /// The settings of a `proxy.yaml`.
    pub fn store(&self, slot: usize) -> StoreSettings {
        let whole_millis = |time: Duration| Duration::from_millis(time.as_millis() as u64);
        StoreSettings {
            max_lag: whole_millis(self.max_lag),
            on_store_loss: match self.serve {
                Duration::ZERO => OnStoreLoss::Bypass,
                serve => OnStoreLoss::Serve(whole_millis(serve)),
            },
            memory: if self.has_local_tier { 1 << 20 } else { 0 },
            replica: Some(format!("replica-{slot}")),
            ..usual_store().clone()
        }
    }

    pub fn bounds(&self) -> IndexBounds {
        let usual = IndexBounds::default();
        IndexBounds { max_records: if self.is_small { 3 } else { usual.max_records }, ..usual }
    }

    /// How old a read may be, in milliseconds. Zero: strict.
    pub fn lag(&self) -> u64 {
        u64::try_from(self.max_lag.max(self.serve).as_millis()).expect("a short time")
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.faults.contains(&kind)
    }

    pub fn loses_the_index(&self) -> bool {
        self.scene == Some(Scene::LostDoubt) || self.faults.iter().any(|kind| kind.loses_the_index())
    }

    /// Whether nobody sees an older version than somebody has seen.
    pub fn is_monotonic(&self) -> bool {
        self.guarded
            && !self.has_events
            && self.lag() == 0
            && self.settle.is_zero()
            && !self.loses_the_index()
    }

    /// A response is not used beyond its lifetime, which begins once its head is there: a replica may be frozen until then.
    pub fn outlived(&self, read: &Read) -> Option<Duty> {
        let age = u128::from(read.asked.at.saturating_sub(read.body.received));
        // Two clocks that are compared over the network.
        let most = self.ttl.as_millis() + 300;
        (age > most && !self.has(Kind::ClockSteps)).then(|| Duty::broken_by(read, "its lifetime is over"))
    }
}

/// The settings that all replicas have, parsed once: that takes longer than all else that the start of a replica does.
fn usual_store() -> &'static StoreSettings {
    static USUAL: OnceLock<StoreSettings> = OnceLock::new();
    USUAL.get_or_init(|| {
        let yaml =
            "upstream: http://127.0.0.1:1\nstore: {redis: \"redis://simulated\", timeout: 50ms}\nroutes: []\n";
        Config::parse(yaml, "proxy.yaml", &|_| None, &Default::default()).expect("a configuration").store
    })
}
