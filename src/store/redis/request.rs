//! Commands, independent of the client library.

use std::time::Duration;

use bytes::Bytes;

/// A command and its arguments. Sent by name, because the client library's own functions for scripts take no deadline.
#[derive(Clone, Debug)]
pub struct RedisRequest {
    /// The name of the command.
    pub name: &'static str,
    /// The arguments after it.
    pub args: Vec<Bytes>,
    /// The server may answer later than other commands, after them.
    pub blocks: bool,
}

impl RedisRequest {
    /// GET of one key.
    pub fn get(key: Bytes) -> Self {
        Self::new("GET", vec![key])
    }

    pub(crate) fn get_many(keys: impl Iterator<Item = Bytes>) -> Self {
        Self::new("MGET", keys.collect())
    }

    /// `expires_at` is in milliseconds on the server's clock.
    pub fn set(key: String, value: Bytes, expires_at: i64) -> Self {
        let expires_at = expires_at.to_string().into();
        Self::new("SET", vec![key.into(), value, Bytes::from_static(b"PXAT"), expires_at])
    }

    pub(crate) fn evalsha(sha: &str, keys: &[&str], args: Vec<Bytes>) -> Self {
        Self::run_script("EVALSHA", sha, keys, args)
    }

    pub(crate) fn eval(text: &str, keys: &[&str], args: Vec<Bytes>) -> Self {
        Self::run_script("EVAL", text, keys, args)
    }

    fn run_script(name: &'static str, script: &str, keys: &[&str], args: Vec<Bytes>) -> Self {
        let mut words = Vec::with_capacity(2 + keys.len() + args.len());
        words.push(Bytes::copy_from_slice(script.as_bytes()));
        words.push(keys.len().to_string().into());
        words.extend(keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())));
        words.extend(args);
        Self::new(name, words)
    }

    pub(crate) fn script_load(text: &'static str) -> Self {
        Self::new("SCRIPT", [&b"LOAD"[..], text.as_bytes()].map(Bytes::from_static).into())
    }

    /// A command with arguments that are text.
    pub fn with_args(name: &'static str, words: &[&str]) -> Self {
        Self::new(name, words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect())
    }

    fn new(name: &'static str, args: Vec<Bytes>) -> Self {
        Self { name, args, blocks: false }
    }
}

/// An argument in whole milliseconds.
pub(super) fn millis_arg(duration: Duration) -> Bytes {
    duration.as_millis().to_string().into()
}
