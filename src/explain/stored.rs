//! What is needed to look at what is stored for a request.

use super::{Explainer, Question};
use crate::policy::classify::{Class, Lookup, classify};
use crate::policy::miss::passes_unseen;
use crate::policy::reuse::{Reuse, assess};
use crate::policy::{CacheKey, RequestHead};
use crate::purge::{LoosePath, Target, TargetId};
use crate::stored_response::{StoredHead, Variants};

impl Explainer<'_> {
    /// The key under which the request is looked up, if it is.
    pub fn looked_up(&self, question: &Question) -> Option<CacheKey> {
        self.looking_up(question, |lookup, _| lookup.key)
    }

    /// The keys under which its variant can stand, the latest kind first.
    pub fn variants(&self, question: &Question, key: &CacheKey, variants: &Variants) -> Vec<CacheKey> {
        let keys = |_: &Lookup<'_>, request: &RequestHead<'_>| {
            variants.fields.iter().map(|fields| key.variant(fields, request)).collect()
        };
        self.looking_up(question, keys).unwrap_or_default()
    }

    /// What may be done with this for the request, were it found valid.
    pub fn reuse(&self, question: &Question, stored: &StoredHead, soft_purged: bool) -> Option<Reuse> {
        self.looking_up(question, |lookup, request| {
            assess(stored, &lookup.under(stored.key), request, soft_purged, self.now)
        })
    }

    /// The target by its name, if it is one of those that `stored` is reached by.
    pub fn named(&self, question: &Question, stored: &StoredHead, id: TargetId) -> Option<Target> {
        let tags = stored.tags().flat_map(|tag| {
            let above = tag.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &tag[..at]);
            above.chain([tag]).map(Target::tag)
        });
        let tag = tags.into_iter().find(|target| target.id() == id);
        tag.or_else(|| self.looking_up(question, |lookup, request| place(lookup, request, id)).flatten())
    }

    fn looking_up<T>(
        &self,
        question: &Question,
        ask: impl FnOnce(&Lookup<'_>, &RequestHead<'_>) -> T,
    ) -> Option<T> {
        let head = self.read(question).ok()?;
        let request = head.as_policy();
        let has_content = !question.body.is_empty();
        match classify(self.routes, &request, has_content, &self.config.credentials) {
            Class::Lookup(lookup) if passes_unseen(&request).is_none() => {
                Some(ask(&Lookup { fallback_ttl: self.fallback_ttl, ..lookup }, &request))
            }
            _ => None,
        }
    }
}

fn place(lookup: &Lookup<'_>, request: &RequestHead<'_>, id: TargetId) -> Option<Target> {
    let path = LoosePath::new(request.path);
    let query = lookup.query.clone().unwrap_or_default();
    let mut places = vec![Target::Everything];
    for host in [None, Some(request.host.to_owned())] {
        places.push(Target::Path { host: host.clone(), path: path.clone() });
        places.push(Target::Url { host: host.clone(), path: path.clone(), query: query.clone() });
        let prefixes = path.prefixes().map(LoosePath::new);
        places.extend(prefixes.map(|path| Target::Prefix { host: host.clone(), path }));
    }
    places.into_iter().find(|target| target.id() == id)
}
