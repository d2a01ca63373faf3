//! Checks that larder's own keys are larder's: nothing else writes under the namespace.

use super::super::keys::KeyNames;
use super::super::scripts::RespValue;
use super::{FindingLevel, Inspection, Probe, ServerFinding};

/// The score of the member of the purge index that names its epoch.
const EPOCH_SCORE: &str = "-0.5";

/// Looks at the keys that a running larder would use. It changes none.
pub(super) async fn check_keys(probe: &Probe, namespace: &str, inspection: &mut Inspection) {
    let keys = KeyNames::new(namespace);
    let found = match read_type(probe, &keys.index).await.as_deref() {
        None | Some("none") => None,
        Some("zset") if is_ours(probe, &keys.index).await => None,
        Some("zset") => Some((
            "foreign-index",
            format!(
                "the key `{}` is a sorted set that larder did not write: larder would delete it",
                keys.index
            ),
        )),
        Some(other) => Some((
            "wrong-type",
            format!(
                "the key `{}` is a {other}, and not larder's purge index: nothing can be shared",
                keys.index
            ),
        )),
    };
    let found = found.map(|(code, message)| (FindingLevel::Error, code, message));
    let journal = match read_type(probe, &keys.history).await.as_deref() {
        None | Some("none" | "stream") => None,
        Some(other) => Some((
            FindingLevel::Warning,
            "wrong-type",
            format!(
                "the key `{}` is a {other}, and not larder's journal: `GET /purges` does not work",
                keys.history
            ),
        )),
    };
    let help = "choose another `store.namespace`, or delete the key if nothing needs it";
    let findings = found.into_iter().chain(journal).map(|(level, code, message)| ServerFinding {
        level,
        code,
        message,
        help: Some(help.to_owned()),
    });
    inspection.findings.extend(findings);
}

/// `None`: the server does not tell.
async fn read_type(probe: &Probe, key: &str) -> Option<String> {
    Some(probe.send("TYPE", &[key]).await.ok()?.text()?.to_owned())
}

/// Whether the sorted set names an epoch, as every purge index does. One that can't be read is not judged.
async fn is_ours(probe: &Probe, key: &str) -> bool {
    let Ok(members) = probe.send("ZRANGEBYSCORE", &[key, EPOCH_SCORE, EPOCH_SCORE]).await else {
        return true;
    };
    let members = members.array().unwrap_or_default();
    members.iter().filter_map(RespValue::text).any(|member| member.starts_with('i'))
}
