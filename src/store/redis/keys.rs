//! Key names. The index and the keys used with it share one slot of a cluster; responses are spread over all slots.

use crate::hex;
use crate::policy::CacheKey;
use crate::policy::purge_channels::PurgeChannels;
use crate::policy::rate_budget::BudgetId;
use crate::store::encoding;

#[derive(Clone, Debug)]
pub(crate) struct KeyNames {
    /// The purge index.
    pub index: String,
    /// The audit log of purges.
    pub history: String,
    /// The purge index of the former release, for as long as replicas of it are live.
    pub former_index: String,
    /// Its replicas' heartbeats.
    pub former_replicas: String,
    /// The channel on which a purge wakes the replicas.
    pub wake: String,
    /// The channels on which purges are announced to others.
    pub publish: PurgeChannels,
    stats: String,
    response: String,
    source: String,
    seen: String,
    rate: String,
    lease: String,
}

impl KeyNames {
    /// `namespace` has no braces.
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            index: format!("{{{namespace}}}:index"),
            former_index: format!("{{{namespace}}}:purged"),
            history: format!("{{{namespace}}}:journal"),
            former_replicas: format!("{{{namespace}}}:replicas"),
            wake: format!("{namespace}:wake"),
            publish: PurgeChannels::default(),
            stats: format!("{{{namespace}}}:stats:"),
            source: format!("{{{namespace}}}:events:"),
            seen: format!("{{{namespace}}}:seen:"),
            rate: format!("{namespace}:rate:"),
            // Another format version uses other keys.
            response: format!("{namespace}:r{}:", encoding::FORMAT_VERSION),
            lease: format!("{namespace}:lease:"),
        }
    }

    /// Names in the patterns of larder's own keys that nobody else uses.
    pub(super) fn for_inspection(namespace: &str, id: &str) -> Self {
        let name = |key: &str| format!("{{{namespace}}}:check:{id}:{key}");
        Self {
            index: name("index"),
            history: name("journal"),
            former_index: name("former"),
            former_replicas: name("former-replicas"),
            ..Self::new(namespace)
        }
    }

    /// The counters of a replica.
    pub(crate) fn stats(&self, replica: &str) -> String {
        format!("{}{replica}", self.stats)
    }

    /// The offset of a source of change events.
    pub(crate) fn source(&self, name: &str) -> String {
        format!("{}{name}", self.source)
    }

    /// The mark of a signed event that was taken.
    pub(crate) fn seen(&self, id: &str) -> String {
        format!("{}{id}", self.seen)
    }

    /// The budget of a caller on a limited route.
    pub(crate) fn rate(&self, budget: &BudgetId) -> String {
        format!("{}{}", self.rate, hex::encode(&budget.hash))
    }

    pub(crate) fn response(&self, key: &CacheKey) -> String {
        let mut name = String::with_capacity(self.response.len() + 64);
        name.push_str(&self.response);
        name.push_str(&hex::encode(&key.0));
        name
    }

    /// The fetch lease of a response, in the same slot.
    pub(crate) fn lease(&self, key: &CacheKey) -> String {
        format!("{}{{{}}}", self.lease, self.response(key))
    }

    /// A staged value of a response, in the same slot.
    pub(crate) fn staged_value(&self, key: &CacheKey, token: &str) -> String {
        format!("{}:{token}", self.lease(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_the_namespace_and_tell_keys_apart() {
        let keys = KeyNames::new("shop");
        assert_eq!((keys.index.as_str(), keys.wake.as_str()), ("{shop}:index", "shop:wake"));
        let name = keys.response(&CacheKey([0xa0; 32]));
        assert_eq!(name, format!("shop:r5:{}", "a0".repeat(32)));
        // The part in braces selects the slot.
        assert_eq!(keys.lease(&CacheKey([0xa0; 32])), format!("shop:lease:{{{name}}}"));
        assert_ne!(name, keys.response(&CacheKey([0x0a; 32])));
        assert_ne!(name, KeyNames::new("shop2").response(&CacheKey([0xa0; 32])));
    }
}
