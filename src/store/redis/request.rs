//! What a server can be asked, and how the client library is told so.

use bytes::Bytes;
use fred::clients::{Client, Pipeline, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::{CustomCommand, Value};

use super::scripts::Part;

/// A command and its arguments. (By name, because the library's own functions for scripts take no deadline.)
#[derive(Clone, Debug)]
pub struct Request {
    name: &'static str,
    words: Vec<Value>,
}

impl Request {
    pub fn get(key: Bytes) -> Self {
        Self { name: "GET", words: vec![Value::Bytes(key)] }
    }

    pub fn get_many(keys: impl Iterator<Item = Bytes>) -> Self {
        Self { name: "MGET", words: keys.map(Value::Bytes).collect() }
    }

    /// `expires_at` is in milliseconds on the server's clock.
    pub fn set(key: String, value: Bytes, expires_at: i64) -> Self {
        let words = vec![Value::from(key), Value::Bytes(value), Value::from("PXAT"), Value::from(expires_at)];
        Self { name: "SET", words }
    }

    pub fn evaluate(sha: &str, keys: &[&str], args: Vec<Bytes>) -> Self {
        let mut words = Vec::with_capacity(2 + keys.len() + args.len());
        words.push(Value::from(sha));
        words.push(Value::from(i64::try_from(keys.len()).unwrap_or(i64::MAX)));
        words.extend(keys.iter().map(|key| Value::from(*key)));
        words.extend(args.into_iter().map(Value::Bytes));
        Self { name: "EVALSHA", words }
    }

    pub fn load(text: &'static str) -> Self {
        Self::about("SCRIPT", &["LOAD", text])
    }

    /// A command that is about the server, and not about a key.
    pub fn about(name: &'static str, words: &[&str]) -> Self {
        Self { name, words: words.iter().map(|word| Value::from(*word)).collect() }
    }

    pub async fn send(self, client: WithOptions<Client>) -> Result<Value, Error> {
        client.custom(command(self.name), self.words).await
    }

    /// As [`Request::send`], to a node that is taking over the slot: with ASKING right before it on the connection,
    /// which a pipeline sees to. Should another command come in between, it only has the permission, and this one is
    /// sent elsewhere.
    pub async fn send_asking(self, client: WithOptions<Client>) -> Result<Value, Error> {
        let pipeline = Pipeline::from(client);
        // At this point a pipeline only says that it has them.
        pipeline.custom::<Value, Value>(command("ASKING"), Vec::new()).await?;
        pipeline.custom::<Value, Value>(command(self.name), self.words).await?;
        let mut replies = pipeline.try_all::<Value>().await;
        replies.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Protocol, "no reply")))
    }
}

fn command(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, None::<u16>, false)
}

pub fn part(value: Value) -> Part {
    match value {
        Value::Null => Part::Nothing,
        Value::Integer(number) => Part::Number(number),
        Value::Array(values) => Part::List(values.into_iter().map(part).collect()),
        value => value.into_bytes().map_or(Part::Nothing, Part::Bytes),
    }
}
