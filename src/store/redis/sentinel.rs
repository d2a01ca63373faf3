//! Sentinels: which of the servers is the primary, and that it is another one now.
//!
//! All are asked at once, each with a short deadline, so that one which hangs or knows an old primary holds up nothing.
//! What they name is believed if the server itself says that it is a primary.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connecting::{Address, Connecting};
use super::driver::{Changes, Node, Sent, Way};
use super::failure::Failure;
use super::figures::Command;
use super::request::Request;
use super::scripts::Part;
use super::wake::hear;
use crate::config::RedisHost;

/// For a question to a sentinel, and for one to the server that it names.
const LOOK: Duration = Duration::from_millis(250);

/// While the primary answers. A sentinel also says at once that there is another one.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const WHILE_IN_TROUBLE: Duration = Duration::from_millis(100);

/// The channel on which a sentinel says that there is another primary.
const SWITCHED: &str = "+switch-master";

struct Sentinels {
    nodes: Vec<Arc<Node>>,
    service: String,
    /// For the servers; and for sentinels with the login, and without.
    connecting: Connecting,
    logins: [Connecting; 2],
    primary: Arc<Node>,
    /// At which epoch it was named.
    epoch: u64,
    changes: Changes,
}

/// Keeps `primary` where the sentinels say, for ever.
pub fn follow(
    sentinels: &[RedisHost],
    service: &str,
    connecting: &Connecting,
    primary: Arc<Node>,
    changes: Changes,
) {
    let with_login = connecting.for_sentinel();
    let without = with_login.without_login().unwrap_or_else(|| with_login.clone());
    // Of these nobody has to hear: they are looked at again and again.
    let quiet = Changes::default();
    let connect =
        |host: &RedisHost| Node::connect(&with_login, Some(Address::Host(host.clone())), quiet.clone());
    let nodes: Vec<_> = sentinels.iter().map(connect).collect();
    let switched = Arc::new(Notify::new());
    for node in &nodes {
        let (node, switched) = (node.clone(), switched.clone());
        tokio::spawn(hear(
            SWITCHED.to_owned(),
            move || node.listening_client(),
            std::future::pending,
            move |_| switched.notify_one(),
        ));
    }
    let service = service.to_owned();
    let logins = [with_login, without];
    let connecting = connecting.clone();
    let sentinels = Sentinels { nodes, service, connecting, logins, primary, epoch: 0, changes };
    tokio::spawn(sentinels.keep(switched));
}

impl Sentinels {
    async fn keep(mut self, switched: Arc<Notify>) {
        let mut changes = self.changes.subscribe();
        for round in 0_usize.. {
            self.look().await;
            self.try_logins(round);
            let pause = if self.primary.health.is_good() { BETWEEN_LOOKS } else { WHILE_IN_TROUBLE };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = switched.notified() => {}
                _ = changes.changed() => tokio::time::sleep(WHILE_IN_TROUBLE / 10).await,
            }
        }
    }

    /// Who was named at the highest epoch is the primary, if that server says so too. Who says that it is a replica was
    /// named wrongly, and the next one counts. Of a server that says nothing, nobody knows: then all stays as it is.
    /// An epoch that has passed is one only to a sentinel that has not heard, unless all of them have begun anew.
    async fn look(&mut self) {
        let mut asked = JoinSet::new();
        for node in &self.nodes {
            let (node, service) = (node.clone(), self.service.clone());
            asked.spawn(async move { named_by(&node, &service).await });
        }
        let mut named: Vec<(u64, RedisHost)> = asked.join_all().await.into_iter().flatten().collect();
        named.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
        let begin_anew =
            named.len() == self.nodes.len() && named.iter().all(|(epoch, _)| *epoch < self.epoch);
        named.retain(|(epoch, _)| *epoch >= self.epoch || begin_anew);
        named.dedup_by(|one, other| one.1 == other.1);
        for (epoch, host) in named {
            let address = Address::Host(host);
            let is_it = self.primary.address().as_deref() == Some(&address) && self.primary.health.is_good();
            match if is_it { Some(true) } else { self.is_primary(&address).await } {
                Some(true) => {
                    self.epoch = epoch;
                    return self.move_to(address);
                }
                Some(false) => {}
                None => return,
            }
        }
    }

    fn move_to(&self, address: Address) {
        if self.primary.address().as_deref() != Some(&address) {
            tracing::info!(service = self.service, primary = %address, "the sentinels name another primary");
            self.primary.move_to(&self.connecting, address);
            self.changes.send_replace(());
        }
    }

    /// On a connection of its own, which then goes. `None`: it does not say.
    async fn is_primary(&self, address: &Address) -> Option<bool> {
        let node = Node::connect(&self.connecting, Some(address.clone()), Changes::default());
        let question = Request::about("INFO", &["replication"]);
        let look = Way { sent: Sent::AsProbe, asking: false, within: LOOK };
        let answer = node.send(Command::Look, question, look).await;
        node.end();
        Some(answer.ok()?.text()?.lines().any(|line| line.trim() == "role:master"))
    }

    /// A login for the servers may not be one for the sentinels, which then refuse it; they may have none at all.
    fn try_logins(&self, round: usize) {
        for node in &self.nodes {
            let is_refused =
                |reason: String| reason.contains("WRONGPASS") || reason.contains("without any password");
            if let (Some(address), true) = (node.address(), node.health.reason().is_some_and(is_refused)) {
                node.move_to(&self.logins[(round + 1) % 2], Address::clone(&address));
            }
        }
    }
}

/// Whom a sentinel takes for the primary, and since which epoch. It is asked for the epoch first, because it may hear of
/// another primary in between; and for the address by a command of its own, because in the middle of a failover the
/// description of the primary still has the old one beside the new epoch.
async fn named_by(node: &Node, service: &str) -> Option<(u64, RedisHost)> {
    let look = Way { sent: Sent::AsProbe, asking: false, within: LOOK };
    let ask = |words: [&str; 2]| node.send(Command::Look, Request::about("SENTINEL", &words), look);
    let (description, address) =
        tokio::join!(ask(["MASTER", service]), ask(["GET-MASTER-ADDR-BY-NAME", service]));
    for answer in [&description, &address] {
        if let Err(Failure::Refused(reason)) = answer {
            tracing::debug!(reason, "a sentinel does not say who is the primary");
        }
    }
    let named = (epoch_in(&description.ok()?)?, host_in(&address.ok()?)?);
    node.health.answered();
    Some(named)
}

/// Names and values in turn.
fn epoch_in(description: &Part) -> Option<u64> {
    let Part::List(fields) = description else { return None };
    let epoch = fields.chunks_exact(2).find(|pair| pair[0].text() == Some("config-epoch"))?;
    epoch[1].number()
}

fn host_in(address: &Part) -> Option<RedisHost> {
    let Part::List(address) = address else { return None };
    let [host, port] = address.as_slice() else { return None };
    Some(RedisHost { host: host.text()?.to_owned(), port: u16::try_from(port.number()?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &[&'static str]) -> Part {
        Part::List(
            fields.iter().map(|text| Part::Bytes(bytes::Bytes::from_static(text.as_bytes()))).collect(),
        )
    }

    #[test]
    fn a_sentinel_names_a_server_and_an_epoch() {
        let fields = ["name", "config-epoch", "ip", "10.0.0.7", "flags", "master", "config-epoch", "3"];
        assert_eq!(epoch_in(&answer(&fields)), Some(3));
        for wrong in [&fields[..6], &["config-epoch", "x"], &["config-epoch"], &[]] {
            assert_eq!(epoch_in(&answer(wrong)), None, "{wrong:?}");
        }
        let host = RedisHost { host: "10.0.0.7".to_owned(), port: 6379 };
        assert_eq!(host_in(&answer(&["10.0.0.7", "6379"])), Some(host));
        for wrong in [&["10.0.0.7", "x"][..], &["10.0.0.7"], &["10.0.0.7", "65536"], &[]] {
            assert_eq!(host_in(&answer(wrong)), None, "{wrong:?}");
        }
        assert_eq!((epoch_in(&Part::Nothing), host_in(&Part::Nothing)), (None, None));
    }
}
