//! One call of `purge.lua`: what it records, and its arguments.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::saturating_micros;
use crate::purge::{AuditRecord, IndexBounds, IntentId, PurgeIntent, PurgeMode, TargetId};
use crate::store::audit_log::MAX_AUDIT_RECORDS;
use crate::store::redis::audit_log;
use crate::store::redis::keys::KeyNames;

use super::integer_arg;

/// The kind of record that a target gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Purge(PurgeMode),
    Intent(IntentId),
}

#[derive(Clone, Debug)]
pub(super) struct PurgeCall {
    pub targets: Vec<TargetId>,
    pub kind: RecordKind,
    pub in_doubt_for: Duration,
    pub resolves: Option<PurgeIntent>,
    /// For people.
    pub audit: Vec<AuditRecord>,
}

impl PurgeCall {
    /// The targets that Redis has to work on.
    pub(super) fn size(&self) -> usize {
        let resolved = self.resolves.as_ref().map_or(0, |intent| intent.targets.len());
        (self.targets.len() + resolved).max(1)
    }

    /// Whether one script can do both: it records one kind with one date, and resolves one intent.
    pub(super) fn can_join(&self, other: &Self) -> bool {
        matches!(self.kind, RecordKind::Purge(_))
            && (self.kind, self.in_doubt_for) == (other.kind, other.in_doubt_for)
            && self.resolves.is_none()
            && other.resolves.is_none()
    }

    /// Takes over what the other records; repeated targets are one.
    pub(super) fn join(&mut self, other: Self) {
        self.targets.extend(other.targets);
        self.targets.sort_unstable();
        self.targets.dedup();
        self.audit.extend(other.audit);
    }

    /// The parts that one script can take each. The intent is resolved, and people are told, by the last.
    pub(super) fn into_parts(self, max_targets: usize) -> Vec<Self> {
        let mut parts: Vec<Self> = self
            .targets
            .chunks(max_targets)
            .map(|targets| Self {
                targets: targets.to_vec(),
                kind: self.kind,
                in_doubt_for: self.in_doubt_for,
                resolves: None,
                audit: Vec::new(),
            })
            .collect();
        match parts.last_mut() {
            Some(last) => (last.resolves, last.audit) = (self.resolves, self.audit),
            None => parts.push(self),
        }
        parts
    }

    /// The arguments of `purge.lua`.
    pub(super) fn args(&self, bounds: &IndexBounds, keys: &KeyNames) -> Vec<Bytes> {
        let resolved = self.resolves.as_ref().map_or(&[][..], |intent| &intent.targets[..]);
        let intent = match self.kind {
            RecordKind::Intent(id) => Some(id),
            RecordKind::Purge(_) => self.resolves.as_ref().map(|intent| intent.id),
        };
        let kind: &[u8] = match self.kind {
            RecordKind::Purge(PurgeMode::Hard) => b"h",
            RecordKind::Purge(PurgeMode::Soft) => b"s",
            RecordKind::Intent(_) => b"m",
        };
        let records: Vec<Bytes> = self.audit.iter().filter_map(audit_log::encode_record).collect();
        let mut args = vec![
            integer_arg(saturating_micros(self.in_doubt_for.min(bounds.max_lifetime))),
            Bytes::from_static(kind),
            integer_arg(bounds.max_records as u64),
            integer_arg(saturating_micros(bounds.max_lifetime)),
            Bytes::copy_from_slice(keys.wake.as_bytes()),
            intent.map(|id| Bytes::copy_from_slice(&id.0)).unwrap_or_default(),
            integer_arg(records.len() as u64),
            integer_arg(MAX_AUDIT_RECORDS as u64),
            Bytes::copy_from_slice(keys.publish.as_deref().unwrap_or_default().as_bytes()),
            integer_arg(resolved.len() as u64),
        ];
        args.extend(resolved.iter().chain(&self.targets).map(|id| Bytes::copy_from_slice(&id.0)));
        args.extend(records);
        args
    }
}
