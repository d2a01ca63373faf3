//! Scenes: short scripts that lead a history to where chance rarely does. Clients and faults go on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use larder::store::PurgeStore;
use tokio::time::sleep;

use crate::clients::{Client, read_position};
use crate::dice::Dice;
use crate::network::Weather;
use crate::plan::{Actor, Operation};
use crate::replica::GUARD_LIMIT;
use crate::simulation::Simulation;
use crate::upstream::{ITEMS, Mood, RESPONSE_TIMEOUT};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A replica stands still before it sends a guarded write, for longer than the mark lasts.
    WriteAfterItsMark,
    /// The index folds a doubt before a replica that starts hears of it.
    FoldedDoubt,
    /// The index is lost while a write may still take effect.
    LostDoubt,
    /// A replica leaves while a confirmation is on its way to it, and hears nothing after that.
    ConfirmedAsItLeft,
    /// An event is deleted before it is read, and the next one is read.
    UnreadEvent,
}

impl Scene {
    pub const ALL: &[Scene] = &[
        Scene::WriteAfterItsMark,
        Scene::FoldedDoubt,
        Scene::LostDoubt,
        Scene::ConfirmedAsItLeft,
        Scene::UnreadEvent,
    ];
}

/// The parts of a scene: a replica, another one, and an item.
struct Cast {
    simulation: Arc<Simulation>,
    dice: Dice,
    first: usize,
    second: usize,
    item: usize,
    client: Client,
}

pub async fn play(simulation: Arc<Simulation>, scene: Scene, mut dice: Dice) {
    // The replicas connect, and the clients store something.
    sleep(dice.millis(30, 250)).await;
    if !simulation.begins(Operation { actor: Actor::Scene, number: 0 }) {
        return;
    }
    let replicas = simulation.setting().replicas;
    let first = dice.below(replicas);
    let (second, item) = ((first + 1) % replicas, dice.below(ITEMS));
    simulation.note(format!("{scene:?} with item {item} at {first} and {second}"));
    let client = Client::new(&simulation, dice.branch(1));
    let cast = Cast { simulation, dice, first, second, item, client };
    match scene {
        Scene::WriteAfterItsMark => cast.write_after_its_mark().await,
        Scene::FoldedDoubt => cast.fold_doubt().await,
        Scene::LostDoubt => cast.lose_doubt().await,
        Scene::ConfirmedAsItLeft => cast.leave_while_confirmed().await,
        Scene::UnreadEvent => cast.delete_event().await,
    }
}

impl Cast {
    /// A response is fetched after the mark has expired and before the write. The list is fetched after it.
    async fn write_after_its_mark(mut self) {
        let process = self.simulation.replica(self.first).process.clone();
        process.pause_before_send();
        let (mut writer, first, item) = (self.another_client(), self.first, self.item);
        let writing = tokio::spawn(async move {
            let written = writer.send_write(first, item, false, Duration::ZERO).await;
            writer.follow(written).await;
        });
        for _ in 0..20 {
            if process.is_frozen() {
                break;
            }
            sleep(Duration::from_millis(3)).await;
        }
        let mark = GUARD_LIMIT + RESPONSE_TIMEOUT;
        sleep(mark + self.dice.millis(2, 60)).await;
        self.client.read_at(self.second, self.item, false).await;
        let before = self.change_weather(|weather, dice| weather.delay = dice.between(20, 150));
        process.thaw();
        sleep(self.dice.millis(1, 16)).await;
        if self.dice.one_in(2) {
            self.simulation.kill(self.first);
            self.simulation.restart(self.first);
        }
        self.client.purge_at(self.second, Some(ITEMS)).await;
        self.client.read_at(self.second, ITEMS, false).await;
        self.client.read_at(self.second, self.item, false).await;
        self.set_weather(before);
        _ = writing.await;
    }

    /// Purges of other resources push the doubt out of a small index. A replica that starts then knows only what was folded.
    async fn fold_doubt(mut self) {
        self.simulation.kill(self.second);
        let (doubt, outcome) = self.write_in_doubt().await;
        for resource in (0..=ITEMS).filter(|resource| *resource != self.item) {
            self.client.purge_at(self.first, Some(resource)).await;
        }
        self.simulation.restart(self.second);
        self.sync(self.second).await;
        self.client.read_at(self.second, self.item, false).await;
        doubt.await;
        self.client.read_at(self.second, self.item, false).await;
        _ = outcome.await;
    }

    async fn lose_doubt(mut self) {
        let (doubt, outcome) = self.write_in_doubt().await;
        let is_flushed = self.dice.one_in(2);
        self.simulation.network().change(|server| match is_flushed {
            true => server.database.flush(),
            false => server.database.evict(|key| key.ends_with(b":index")),
        });
        for slot in 0..self.simulation.setting().replicas {
            self.sync(slot).await;
        }
        self.client.read_at(self.second, self.item, false).await;
        doubt.await;
        self.client.read_at(self.second, self.item, false).await;
        _ = outcome.await;
    }

    async fn leave_while_confirmed(mut self) {
        self.client.read_at(self.first, self.item, false).await;
        let before = self.change_weather(|weather, dice| weather.delay = dice.between(8, 24));
        // It is woken, and asks what is new.
        let other = (self.item + 1) % ITEMS;
        self.client.purge_at(self.second, Some(other)).await;
        sleep(self.dice.millis(0, 20)).await;
        let replica = self.simulation.replica(self.first);
        let leaving = replica.process.enter(|| larder::tasks::spawn(replica.clone().leave()));
        sleep(self.dice.millis(20, 60)).await;
        self.change_weather(|weather, _| weather.is_silent = true);
        let written = self.client.send_write(self.second, self.item, false, Duration::ZERO).await;
        self.client.follow(written).await;
        for _ in 0..3 {
            self.client.read_at(self.first, self.item, false).await;
        }
        self.set_weather(before);
        leaving.abort();
        self.simulation.kill(self.first);
        self.simulation.restart(self.first);
    }

    async fn delete_event(mut self) {
        // A replica begins to read the stream a second after it could not.
        for _ in 0..80 {
            if read_position(self.simulation.network()).is_some() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        let items = [self.item, (self.item + 1) % ITEMS];
        self.read_all(items).await;
        let mut other = self.another_client();
        let deleted =
            tokio::spawn(async move { other.announce_change(items[0], Some(Duration::ZERO)).await });
        sleep(self.dice.millis(1, 8)).await;
        self.client.announce_change(items[1], None).await;
        _ = deleted.await;
        self.read_all(items).await;
    }

    async fn read_all(&mut self, items: [usize; 2]) {
        for slot in [self.first, self.second] {
            for item in items {
                self.client.read_at(slot, item, false).await;
            }
        }
    }

    /// Writes the item so that the outcome is unknown. Returns when its doubt is over, and when it is known what must be
    /// seen then.
    async fn write_in_doubt(&mut self) -> (impl Future<Output = ()> + use<>, tokio::task::JoinHandle<()>) {
        self.simulation.upstream().set_mood(Mood::Cuts);
        let written = self.client.send_write(self.first, self.item, false, Duration::ZERO).await;
        self.simulation.upstream().set_mood(Mood::Well);
        let mut writer = self.another_client();
        let outcome = tokio::spawn(async move { writer.follow(written).await });
        let over = tokio::time::Instant::now() + RESPONSE_TIMEOUT + self.dice.millis(4, 60);
        (tokio::time::sleep_until(over), outcome)
    }

    /// Waits until the replica is confirmed, for a while.
    async fn sync(&self, slot: usize) {
        for _ in 0..8 {
            let replica = self.simulation.replica(slot);
            let store = replica.store.clone();
            if Client::ask(&replica, async move { store.sync().await }).await == Some(true) {
                return;
            }
            sleep(Duration::from_millis(3)).await;
        }
    }

    fn another_client(&self) -> Client {
        Client::new(&self.simulation, self.dice.branch(2))
    }

    /// Changes the weather on the way of the first replica, and returns what it was.
    fn change_weather(&mut self, change: impl FnOnce(&mut Weather, &mut Dice)) -> Weather {
        let path = self.simulation.path(self.first);
        let mut weather = path.weather.lock();
        let before = weather.clone();
        change(&mut weather, &mut self.dice);
        before
    }

    fn set_weather(&self, weather: Weather) {
        *self.simulation.path(self.first).weather.lock() = weather;
    }
}
