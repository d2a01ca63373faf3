//! Servers as a row of the table says.

use super::rows::{Row, Setup, TlsLogin};
use crate::support::{Certificates, Cluster, Redis, RespProxy, Sentinels, free_port};

/// A deployment, and the value of `store.redis` that leads to it.
pub struct Deployment {
    pub settings: String,
    /// The server that has the purge index.
    index: Server,
    _proxy: Option<RespProxy>,
    _certificates: Option<Certificates>,
}

enum Server {
    Single(Redis),
    /// With a replica or a primary beside it.
    Pair(Redis, #[expect(dead_code, reason = "kept running")] Redis),
    Cluster(Cluster, usize),
    Sentinels(Sentinels),
}

impl Deployment {
    /// `None` if this machine has no such server.
    pub async fn start(row: &Row) -> Option<Self> {
        let program = row.program()?;
        Some(match &row.setup {
            Setup::Server(arguments) => Self::single(Redis::start_program(&program, arguments).await),
            Setup::Settings(arguments, settings) => {
                let free_port = free_port().to_string();
                let argument = |argument: &&'static str| {
                    if *argument == "FREE_PORT" { free_port.as_str() } else { *argument }
                };
                let arguments: Vec<&str> = arguments.iter().map(argument).collect();
                let redis = Redis::start_program(&program, &arguments).await;
                let settings = settings.replace("PORT", &redis.port().to_string());
                let settings = settings.replace("SOCKET", &redis.socket().to_string_lossy());
                Self { settings, ..Self::single(redis) }
            }
            Setup::Command(words, settings) => {
                let redis = Redis::start_program(&program, &[]).await;
                assert_eq!(redis.command(words).await, "OK");
                let settings = settings.replace("PORT", &redis.port().to_string());
                Self { settings, ..Self::single(redis) }
            }
            Setup::User(rights) => {
                let redis = Redis::start_program(&program, &[]).await;
                redis.set_user(rights).await;
                Self {
                    settings: format!("\"redis://app:p@127.0.0.1:{}\"", redis.port()),
                    ..Self::single(redis)
                }
            }
            Setup::Replica => Self::replica(&program).await,
            Setup::Tls(login) => Self::with_tls(&program, *login).await,
            Setup::Proxy(refuse) => {
                let redis = Redis::start_program(&program, &[]).await;
                let proxy = RespProxy::start(redis.address(), *refuse).await;
                Self { settings: format!("\"{}\"", proxy.url()), _proxy: Some(proxy), ..Self::single(redis) }
            }
            Setup::Cluster(arguments, rights) => Self::cluster(arguments, *rights).await,
            Setup::Sentinel(rights) => Self::sentinels(*rights).await,
        })
    }

    fn single(redis: Redis) -> Self {
        Self {
            settings: format!("\"{}\"", redis.url()),
            index: Server::Single(redis),
            _proxy: None,
            _certificates: None,
        }
    }

    async fn replica(program: &str) -> Self {
        let primary = Redis::start_program(program, &[]).await;
        let replica_of = format!("127.0.0.1 {}", primary.port());
        let replica = Redis::start_program(program, &["--replicaof", &replica_of]).await;
        let settings = format!("\"{}\"", replica.url());
        Self { settings, index: Server::Pair(replica, primary), _proxy: None, _certificates: None }
    }

    async fn with_tls(program: &str, login: TlsLogin) -> Self {
        let (certificates, port) = (Certificates::new(), free_port());
        let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|file| certificates.text(file));
        let (tls_port, clients) =
            (port.to_string(), if login == TlsLogin::Certificate { "yes" } else { "no" });
        let mut arguments = vec!["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key];
        arguments.extend(["--tls-ca-cert-file", &ca, "--tls-auth-clients", clients]);
        let redis = Redis::start_program(program, &arguments).await;
        let (mut user, mut tls) = ("", format!("ca: \"{ca}\""));
        match login {
            TlsLogin::None => {}
            TlsLogin::Certificate => {
                let [cert, key] = ["client.pem", "client.key"].map(|file| certificates.text(file));
                tls += &format!(", cert: \"{cert}\", key: \"{key}\"");
            }
            TlsLogin::User => {
                redis.set_user(&[]).await;
                user = "app:p@";
            }
        }
        let settings = format!("{{url: \"rediss://{user}127.0.0.1:{port}\", tls: {{{tls}}}}}");
        Self { settings, _certificates: Some(certificates), ..Self::single(redis) }
    }

    async fn cluster(arguments: &[&str], rights: Option<&[&str]>) -> Self {
        let cluster = Cluster::start_with(0, arguments).await;
        let mut settings = cluster.url();
        if let Some(rights) = rights {
            let rights = [rights, &["+cluster|info", "+cluster|slots", "+asking"]].concat();
            for number in 0..3 {
                cluster[number].set_user(&rights).await;
            }
            settings = settings.replace("redis-cluster://", "redis-cluster://app:p@");
        }
        let index = cluster.index().await;
        Self {
            settings: format!("\"{settings}\""),
            index: Server::Cluster(cluster, index),
            _proxy: None,
            _certificates: None,
        }
    }

    async fn sentinels(rights: Option<&[&str]>) -> Self {
        let sentinels = Sentinels::start().await;
        let mut settings = sentinels.url();
        if let Some(rights) = rights {
            for server in &sentinels.servers {
                server.set_user(rights).await;
            }
            settings = settings.replace("redis-sentinel://", "redis-sentinel://app:p@");
        }
        Self {
            settings: format!("\"{settings}\""),
            index: Server::Sentinels(sentinels),
            _proxy: None,
            _certificates: None,
        }
    }

    /// The masters that larder must reach, if it is a cluster.
    pub fn masters(&self) -> usize {
        if matches!(self.index, Server::Cluster(..)) { 3 } else { 0 }
    }

    /// How many replicas listen to wake-ups.
    pub async fn subscribers(&self) -> usize {
        let redis = match &self.index {
            Server::Single(redis) | Server::Pair(redis, _) => redis,
            Server::Cluster(cluster, index) => &cluster[*index],
            Server::Sentinels(sentinels) => &sentinels.servers[0],
        };
        let told = redis.command(&["PUBSUB", "NUMSUB", "larder:wake"]).await;
        told.lines().last().and_then(|count| count.parse().ok()).unwrap_or_default()
    }
}
