//! The latest version of each state record, in memory.

use crate::error::{ErrorCode, LogError, Result};
use std::collections::BTreeMap;

#[derive(Default)]
struct StateRecord {
    /// Segment that holds the latest durable version, 0 if none is durable yet.
    segment: u32,
    offset: u32,
    /// None where the latest version is damaged.
    body: Option<Vec<u8>>,
    /// Versions that were appended and are not durable yet.
    pending: u32,
}

/// A state record whose only copy is in a segment.
pub(crate) struct HeldState {
    pub group: u32,
    pub slot: u64,
    pub body: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct StateTable {
    records: BTreeMap<(u32, u64), StateRecord>,
}

impl StateTable {
    /// Groups that have a durable state record; may name one several times.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.records.iter().filter(|(_, record)| record.segment != 0).map(|((group, _), _)| *group)
    }

    /// Latest durable body, or None. An error (Corrupt) if the latest version is damaged; an older one would be a lie.
    pub fn get(&self, group: u32, slot: u64) -> Result<Option<&[u8]>> {
        match self.records.get(&(group, slot)) {
            Some(record) if record.segment != 0 => match &record.body {
                Some(body) => Ok(Some(body)),
                None => {
                    let message = format!("state record of group {group}, slot {slot} is damaged");
                    Err(LogError::new(ErrorCode::Corrupt, message))
                }
            },
            _ => Ok(None),
        }
    }

    /// Segment and offset of the latest durable version.
    pub fn place(&self, group: u32, slot: u64) -> Option<(u32, u32)> {
        let record = self.records.get(&(group, slot))?;
        (record.segment != 0).then_some((record.segment, record.offset))
    }

    pub fn appended(&mut self, group: u32, slot: u64) {
        self.records.entry((group, slot)).or_default().pending += 1;
    }

    /// Takes a version that is durable now; returns the segment of the version before, 0 if none.
    pub fn durable(&mut self, group: u32, slot: u64, segment: u32, offset: u32, body: Option<Vec<u8>>) -> u32 {
        let record = self.records.entry((group, slot)).or_default();
        let previous = record.segment;
        record.pending = record.pending.saturating_sub(1);
        record.segment = segment;
        record.offset = offset;
        record.body = body;
        previous
    }

    /// Undamaged records whose latest durable version lies in `segment` and has no successor on its way, by key.
    pub fn held_by(&self, segment: u32) -> impl Iterator<Item = HeldState> {
        self.records.iter().filter_map(move |((group, slot), record)| {
            let body = record.body.as_ref().filter(|_| record.segment == segment && record.pending == 0)?;
            Some(HeldState { group: *group, slot: *slot, body: body.clone() })
        })
    }
}
