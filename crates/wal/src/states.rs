//! The latest version of each state record, in memory.

use crate::error::{ErrorCode, LogError, Result};
use crate::index::Place;
use std::collections::BTreeMap;

/// A version of a state record and where it lies.
pub(crate) struct StatePlace {
    pub place: Place,
    /// None if it is damaged.
    pub body: Option<Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct StateTable {
    records: BTreeMap<(u32, u64), StatePlace>,
}

impl StateTable {
    /// Groups that have a state record; may name one several times.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.records.keys().map(|(group, _)| *group)
    }

    /// Latest durable body, or None. An error (Corrupt) if the latest version is damaged; an older one would be a lie.
    pub fn get(&self, group: u32, slot: u64) -> Result<Option<&[u8]>> {
        match self.get_place(group, slot) {
            None => Ok(None),
            Some(StatePlace { body: Some(body), .. }) => Ok(Some(body)),
            Some(StatePlace { body: None, .. }) => {
                let message = format!("state record of group {group}, slot {slot} is damaged");
                Err(LogError::new(ErrorCode::Corrupt, message))
            }
        }
    }

    /// The latest durable version.
    pub fn get_place(&self, group: u32, slot: u64) -> Option<&StatePlace> {
        self.records.get(&(group, slot))
    }

    /// Takes a version that is durable now; returns the place of the one before.
    pub fn set(&mut self, group: u32, slot: u64, place: StatePlace) -> Option<Place> {
        self.records.insert((group, slot), place).map(|previous| previous.place)
    }
}
