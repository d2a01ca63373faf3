//! The budgets of limited routes, which the replicas share in Redis.

use std::time::Duration;

use super::command_stats::CommandKind;
use super::connection::Admission;
use super::error::RedisError;
use super::index::integer_arg;
use super::scripts::{RATE, RespValue};
use super::servers::Servers;
use crate::clock::saturating_micros;
use crate::policy::rate_limit::Charge;

pub(crate) async fn charge(
    servers: &Servers,
    key: &str,
    [price, capacity]: [Duration; 2],
    timeout: Duration,
) -> Result<Charge, RedisError> {
    let args = [price, capacity].map(|amount| integer_arg(saturating_micros(amount)));
    let kind = CommandKind::Rate;
    let reply = servers.run(kind, &RATE, &[key], args.to_vec(), Admission::IfHealthy, timeout).await?;
    parse_charge(&reply).ok_or_else(|| RedisError::ErrorReply("malformed charge".to_owned()))
}

fn parse_charge(reply: &RespValue) -> Option<Charge> {
    let [is_granted, owed] = reply.array()? else { return None };
    Some(Charge { is_granted: is_granted.number()? == 1, owed: Duration::from_micros(owed.number()?) })
}
