//! The names of keys. The index and what belongs to it lie in one slot of a cluster, responses are spread over all.

use crate::hex;
use crate::policy::CacheKey;
use crate::store::encoding;

#[derive(Clone, Debug)]
pub struct Keys {
    /// The purge index.
    pub index: String,
    /// The last purges, for people.
    pub history: String,
    /// Who is there, and how much each knows.
    pub replicas: String,
    /// The channel on which a purge wakes the replicas.
    pub wake: String,
    /// The channel on which purges are announced to others.
    pub publish: Option<String>,
    response: String,
    source: String,
    seen: String,
    lease: String,
}

impl Keys {
    /// `namespace` has no braces.
    pub fn new(namespace: &str) -> Self {
        Self {
            index: format!("{{{namespace}}}:purged"),
            history: format!("{{{namespace}}}:journal"),
            replicas: format!("{{{namespace}}}:replicas"),
            wake: format!("{namespace}:wake"),
            publish: None,
            // Another version of larder reads other keys: it would find nothing that it could read.
            source: format!("{{{namespace}}}:events:"),
            seen: format!("{{{namespace}}}:seen:"),
            response: format!("{namespace}:r{}:", encoding::VERSION),
            lease: format!("{namespace}:lease:"),
        }
    }

    /// What is known of a source of change events.
    pub fn source(&self, name: &str) -> String {
        format!("{}{name}", self.source)
    }

    /// Whether a signed event was taken.
    pub fn seen(&self, id: &str) -> String {
        format!("{}{id}", self.seen)
    }

    pub fn response(&self, key: &CacheKey) -> String {
        let mut name = String::with_capacity(self.response.len() + 64);
        name.push_str(&self.response);
        name.push_str(&hex::encode(&key.0));
        name
    }

    /// Of the fetch of a response, in the slot of that.
    pub fn lease(&self, key: &CacheKey) -> String {
        format!("{}{{{}}}", self.lease, self.response(key))
    }

    /// Where a value stands until it takes its place, in the slot of that.
    pub fn new_value(&self, key: &CacheKey, token: &str) -> String {
        format!("{}:{token}", self.lease(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_the_namespace_and_tell_keys_apart() {
        let keys = Keys::new("shop");
        assert_eq!((keys.index.as_str(), keys.wake.as_str()), ("{shop}:purged", "shop:wake"));
        let name = keys.response(&CacheKey([0xa0; 32]));
        assert_eq!(name, format!("shop:r3:{}", "a0".repeat(32)));
        // What stands in braces chooses the slot.
        assert_eq!(keys.lease(&CacheKey([0xa0; 32])), format!("shop:lease:{{{name}}}"));
        assert_ne!(name, keys.response(&CacheKey([0x0a; 32])));
        assert_ne!(name, Keys::new("shop2").response(&CacheKey([0xa0; 32])));
    }
}
