//! The purge protocol: two replicas, two rule sets under which one tag has two names, two servers, an upstream with one
//! resource.

use crate::checker::Model;
use crate::scope::{Fix, Scope};
use crate::server::{Index, Member, Server, rendered_by, tag};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Tick,
    Confirm(usize),
    BeginFetch(usize),
    /// The upstream reads, and the response is stored.
    EndFetch(usize),
    /// The upstream reads a copy from before the last write.
    EndStaleFetch(usize),
    Hit(usize),
    Mark(usize),
    /// The write reaches the upstream, and takes effect.
    Send(usize),
    Purge(usize),
    /// `Purge-Wait: applied`.
    WaitApplied(usize),
    ReplayJournal(usize),
    Reload(usize),
    Crash(usize),
    /// The index is lost.
    Flush,
    /// The first server can't be reached, and then it can.
    Leave,
    Return,
    /// The second server takes over.
    Failover,
    HearOfFailover(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    version: u8,
    epoch: u8,
    /// All purges up to this version happened before the fetch.
    read: u8,
    time: u8,
    rules: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct View {
    index: Index,
    at: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Write {
    #[default]
    None,
    Marked {
        rules: usize,
        until: u8,
    },
    Sent {
        rules: usize,
        version: u8,
    },
    /// Acknowledged, at this purge version of this epoch.
    Purged {
        version: u8,
        epoch: u8,
        at: u8,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Replica {
    server: usize,
    rules: usize,
    view: Option<View>,
    /// The response of the fetch under way, without its version.
    fetch: Option<Entry>,
    entry: Option<Entry>,
    write: Write,
    /// The tag's purges that Redis did not take, by rules.
    journal: [bool; 2],
    /// The version that this replica must show, since it has taken the purge.
    shows: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    clock: u8,
    upstream: u8,
    /// When the last write took effect, where copies lag.
    written_at: u8,
    epochs: u8,
    servers: [Server; 2],
    replicas: [Replica; 2],
    /// The latest acknowledged version, and when it was acknowledged.
    acknowledged: (u8, u8),
    applied: u8,
    seen: u8,
    reloads: u8,
    flushes: u8,
    crashes: u8,
    outages: u8,
    is_away: bool,
    has_failed_over: bool,
}

impl Model for Scope {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            clock: 0,
            upstream: 0,
            written_at: 0,
            epochs: 1,
            servers: [Server::new(self, 1, 0), Server::default()],
            replicas: Default::default(),
            acknowledged: (0, 0),
            applied: 0,
            seen: 0,
            reloads: 0,
            flushes: 0,
            crashes: 0,
            outages: 0,
            is_away: false,
            has_failed_over: false,
        }
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut offer = |step, is_possible: bool| {
            if is_possible {
                steps.push(step);
            }
        };
        offer(Step::Tick, state.clock < self.ticks);
        offer(Step::Flush, state.flushes < self.flushes);
        offer(Step::Leave, state.outages < self.outages);
        offer(Step::Return, state.is_away);
        offer(Step::Failover, self.failovers > 0 && !state.has_failed_over);
        for replica in 0..2 {
            self.offer_replica_steps(state, replica, &mut offer);
        }
        steps
    }

    fn after(&self, state: &State, step: Step) -> Result<State, &'static str> {
        let mut next = state.clone();
        match step {
            Step::Tick => next.clock += 1,
            Step::Confirm(replica) => self.confirm(&mut next, replica),
            Step::Hit(replica) => self.hit(&mut next, replica)?,
            Step::BeginFetch(replica) => self.begin_fetch(&mut next, replica),
            Step::EndFetch(replica) => end_fetch(&mut next, replica, state.upstream),
            Step::EndStaleFetch(replica) => end_fetch(&mut next, replica, state.upstream - 1),
            Step::Mark(_) | Step::Send(_) | Step::Purge(_) => self.write(&mut next, step),
            Step::WaitApplied(replica) => self.wait_applied(&mut next, replica),
            Step::ReplayJournal(replica) => self.replay_journal(&mut next, replica),
            Step::Reload(replica) => {
                let rules = &mut next.replicas[replica].rules;
                (*rules, next.reloads) = (1 - *rules, next.reloads + 1);
            }
            Step::Crash(replica) => {
                let Replica { server, rules, .. } = next.replicas[replica];
                next.replicas[replica] = Replica { server, rules, ..Replica::default() };
                next.servers.iter_mut().for_each(|server| server.orphan_mark(self, replica));
                next.crashes += 1;
            }
            Step::Flush => {
                (next.epochs, next.flushes) = (next.epochs + 1, next.flushes + 1);
                next.servers[0] = Server::new(self, next.epochs, next.clock);
            }
            Step::Leave | Step::Return => {
                next.is_away = step == Step::Leave;
                next.outages += u8::from(next.is_away);
                next.servers[0].is_primary = !next.is_away;
            }
            Step::Failover => {
                (next.epochs, next.has_failed_over) = (next.epochs + 1, true);
                next.servers[0].is_primary = !self.has(Fix::FencedPrimary);
                next.servers[1] = Server::new(self, next.epochs, next.clock);
            }
            Step::HearOfFailover(replica) => next.replicas[replica].server = 1,
        }
        self.forget(&mut next);
        Ok(next)
    }
}

impl Scope {
    /// Forgets what decides nothing any more, so that states that differ in it alone are one.
    fn forget(&self, state: &mut State) {
        if !self.guarded || self.lag > 0 {
            state.seen = 0;
        }
        // Times that are longer ago than any that is compared.
        let long_ago = state.clock.saturating_sub(self.lag + 1);
        state.acknowledged.1 = state.acknowledged.1.max(long_ago);
        state.servers.iter_mut().for_each(|server| server.began = server.began.max(long_ago));
        for replica in &mut state.replicas {
            replica.view.iter_mut().for_each(|view| view.at = view.at.max(long_ago));
            if !self.guarded && self.settle == 0 {
                let entries = replica.fetch.iter_mut().chain(&mut replica.entry);
                entries.for_each(|entry| entry.time = 0);
            }
        }
        for number in 0..2 {
            let replica = &state.replicas[number];
            let dead = |entry: &Entry| match (&replica.view, self.lag) {
                (_, 0) => self.is_dead(&state.servers[replica.server].index, entry),
                (Some(view), _) => self.is_dead(&view.index, entry),
                (None, _) => false,
            };
            let is_dead = [&replica.fetch, &replica.entry].map(|entry| entry.as_ref().is_some_and(dead));
            let replica = &mut state.replicas[number];
            if is_dead[0] && !self.guarded {
                replica.fetch = None;
            }
            if is_dead[1] {
                replica.entry = None;
            }
            if self.lag == 0 {
                replica.view = None;
                if matches!(replica.write, Write::Purged { .. }) {
                    replica.write = Write::None;
                }
            }
        }
    }

    /// Whether the index names the response: it will never be valid again under it.
    fn is_dead(&self, index: &Index, entry: &Entry) -> bool {
        let is_newer = |target: usize| index.records[target].version > entry.read;
        let has_rules = self.has(Fix::RulesInValidity);
        entry.epoch == index.epoch
            && (is_newer(tag(entry.rules)) || has_rules && is_newer(rendered_by(1 - entry.rules)))
    }

    fn offer_replica_steps(&self, state: &State, number: usize, offer: &mut impl FnMut(Step, bool)) {
        let replica = &state.replicas[number];
        let is_served = state.servers[replica.server].is_primary;
        let has_journal = replica.journal != [false; 2];
        offer(Step::Confirm(number), self.lag > 0 && is_served && !has_journal);
        offer(Step::ReplayJournal(number), is_served && has_journal);
        let may_serve = match self.lag {
            0 => is_served && !has_journal,
            lag => replica.view.as_ref().is_some_and(|view| state.clock <= view.at + lag),
        };
        offer(Step::Hit(number), may_serve && replica.entry.is_some());
        let may_confirm = self.lag == 0 && is_served && !has_journal;
        offer(Step::BeginFetch(number), (may_confirm || replica.view.is_some()) && replica.fetch.is_none());
        offer(Step::EndFetch(number), replica.fetch.is_some());
        let is_stale = state.upstream > 0 && state.clock < state.written_at + self.settle;
        offer(Step::EndStaleFetch(number), replica.fetch.is_some() && is_stale);
        // Replicas are alike, so it does not matter which one writes first.
        let is_first = number == 0 || state.upstream > 0;
        let may_write = is_first && state.upstream + pending_writes(state) < self.writes;
        let has_none = matches!(replica.write, Write::None | Write::Purged { .. });
        let is_expired = matches!(replica.write, Write::Marked { until, .. } if until <= state.clock);
        let is_fenced = is_expired && self.has(Fix::FencedWrites);
        offer(Step::Mark(number), self.guarded && is_served && (has_none && may_write || is_fenced));
        let is_marked = matches!(replica.write, Write::Marked { .. });
        offer(Step::Send(number), is_marked && !is_fenced || !self.guarded && has_none && may_write);
        offer(Step::Purge(number), matches!(replica.write, Write::Sent { .. }));
        offer(Step::WaitApplied(number), self.may_be_applied(state, number));
        offer(Step::Reload(number), state.reloads < self.reloads);
        offer(Step::Crash(number), state.crashes < self.crashes);
        offer(Step::HearOfFailover(number), state.has_failed_over && replica.server == 0);
    }

    /// One script: the roll, then the records that the replica lacks.
    fn confirm(&self, state: &mut State, number: usize) {
        self.register(state, number);
        let replica = &mut state.replicas[number];
        let index = state.servers[replica.server].index.clone();
        replica.view = Some(View { index, at: state.clock });
    }

    fn register(&self, state: &mut State, number: usize) {
        let replica = &state.replicas[number];
        let (known, epoch) =
            replica.view.as_ref().map_or((0, 0), |view| (view.index.version, view.index.epoch));
        if replica.view.is_none() && !self.has(Fix::RollBeforeConfirmation) {
            return;
        }
        state.servers[replica.server].register(number, Member { known, epoch });
    }

    fn begin_fetch(&self, state: &mut State, number: usize) {
        if self.lag == 0 {
            self.confirm(state, number);
        }
        let replica = &mut state.replicas[number];
        let Some(View { index, at, .. }) = &replica.view else { return };
        let (read, time) = (index.version, *at);
        let entry = Entry { version: 0, epoch: index.epoch, read, time, rules: replica.rules };
        replica.fetch = Some(entry);
    }

    fn hit(&self, state: &mut State, number: usize) -> Result<(), &'static str> {
        if self.lag == 0 {
            self.confirm(state, number);
        }
        let replica = &state.replicas[number];
        let (Some(entry), Some(view)) = (&replica.entry, &replica.view) else { return Ok(()) };
        if !self.is_valid(replica, entry, view) {
            return Ok(());
        }
        let (acknowledged, at) = state.acknowledged;
        if entry.version < replica.shows {
            return Err("what the replica purged itself");
        }
        if entry.version < acknowledged && state.clock >= at + self.lag + u8::from(self.lag > 0) {
            return Err("what was acknowledged");
        }
        if entry.version < state.applied {
            return Err("what was applied");
        }
        if self.guarded && self.lag == 0 && entry.version < state.seen {
            return Err("what somebody has seen");
        }
        state.seen = state.seen.max(entry.version);
        Ok(())
    }

    fn is_valid(&self, replica: &Replica, entry: &Entry, view: &View) -> bool {
        let index = &view.index;
        let is_current = |target: usize| {
            let settled = index.records[target].at.map(|at| at + self.settle).unwrap_or_default();
            let has_settled = settled <= entry.time || !self.has(Fix::Settle);
            index.records[target].version <= entry.read
                && index.doubted_until(target) <= entry.time
                && has_settled
        };
        let is_unsettled = replica.journal.contains(&true) && self.has(Fix::Journal);
        let is_under_rules = !self.has(Fix::RulesInValidity)
            || entry.rules == replica.rules && is_current(rendered_by(1 - entry.rules));
        entry.epoch == index.epoch && is_current(tag(entry.rules)) && is_under_rules && !is_unsettled
    }

    fn write(&self, state: &mut State, step: Step) {
        match step {
            Step::Mark(number) => {
                self.register(state, number);
                let Replica { server, rules, .. } = state.replicas[number];
                let until = state.servers[server].mark(self, number, rules, state.clock);
                state.replicas[number].write = Write::Marked { rules, until };
            }
            Step::Send(number) => {
                state.upstream += 1;
                state.written_at = if self.settle > 0 { state.clock } else { 0 };
                let replica = &mut state.replicas[number];
                let rules = match replica.write {
                    Write::Marked { rules, .. } => rules,
                    _ => replica.rules,
                };
                replica.write = Write::Sent { rules, version: state.upstream };
            }
            Step::Purge(number) => self.purge(state, number),
            _ => unreachable!("no part of a write: {step:?}"),
        }
    }

    fn purge(&self, state: &mut State, number: usize) {
        let Write::Sent { rules, version } = state.replicas[number].write else { return };
        let replica = &mut state.replicas[number];
        replica.shows = replica.shows.max(version);
        let server = replica.server;
        if !state.servers[server].is_primary {
            replica.journal[rules] = true;
            replica.write = Write::None;
            return;
        }
        self.register(state, number);
        let clock = state.clock;
        let server = &mut state.servers[server];
        let purged = server.purge(self, number, rules, clock);
        let epoch = server.index.epoch;
        let replica = &mut state.replicas[number];
        replica.write = Write::Purged { version: purged, epoch, at: state.upstream.min(version) };
        self.learn(state, number);
        if version > state.acknowledged.0 {
            state.acknowledged = (version, state.clock);
        }
    }

    /// The reply of a purge brings what the view lacks.
    fn learn(&self, state: &mut State, number: usize) {
        let replica = &mut state.replicas[number];
        let index = state.servers[replica.server].index.clone();
        replica.view = Some(View { index, at: state.clock });
    }

    fn replay_journal(&self, state: &mut State, number: usize) {
        let rules = (0..2).filter(|rules| state.replicas[number].journal[*rules]).collect::<Vec<_>>();
        self.register(state, number);
        let server = state.replicas[number].server;
        if self.has(Fix::Journal) {
            for rules in rules {
                state.servers[server].purge(self, number, rules, state.clock);
            }
        }
        state.replicas[number].journal = [false; 2];
        self.learn(state, number);
    }

    /// Whether every replica on the roll knows the purge.
    fn may_be_applied(&self, state: &State, number: usize) -> bool {
        let Replica { write: Write::Purged { version, epoch, .. }, server, .. } = state.replicas[number]
        else {
            return false;
        };
        let server = &state.servers[server];
        let is_settled = !self.has(Fix::YoungEpochWaits) || state.clock > server.began + self.lag;
        let knows = |member: &Member| member.epoch == epoch && member.known >= version;
        self.lag > 0
            && server.is_primary
            && server.index.epoch == epoch
            && is_settled
            && server.roll.iter().flatten().all(knows)
    }

    fn wait_applied(&self, state: &mut State, number: usize) {
        let replica = &mut state.replicas[number];
        if let Write::Purged { at, .. } = replica.write {
            state.applied = state.applied.max(at);
        }
        replica.write = Write::None;
    }
}

/// Writes that will still reach the upstream.
fn pending_writes(state: &State) -> u8 {
    state.replicas.iter().filter(|replica| matches!(replica.write, Write::Marked { .. })).count() as u8
}

fn end_fetch(state: &mut State, number: usize, version: u8) {
    state.seen = state.seen.max(version);
    let replica = &mut state.replicas[number];
    replica.entry = replica.fetch.take().map(|entry| Entry { version, ..entry });
}
