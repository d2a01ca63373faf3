//! What the file may say and this version can't do yet. Everything of that kind is refused here and nowhere else.

use super::problem::{Place, Problems};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    RedisCluster,
    RedisSentinel,
}

pub fn not_yet(feature: Feature, place: Place, problems: &Problems) {
    let (what, meanwhile) = match feature {
        Feature::RedisCluster => (
            "`redis-cluster://`",
            "name one server by `redis://`; responses and purges of all replicas go through it",
        ),
        Feature::RedisSentinel => (
            "`redis-sentinel://`",
            "name the primary by `redis://`, under a name or address that moves with it",
        ),
    };
    problems.error(place, format!("{what} is not in this version yet")).help(meanwhile);
}
