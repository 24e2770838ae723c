//! Entries, states and segments, with the count of what lives in each segment.

use crate::files::LogFile;
use crate::index::{EntryIndex, Place};
use crate::states::{HeldState, StateTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A segment file and how much of it lives.
pub(crate) struct Segment {
    pub id: u32,
    pub file: Arc<dyn LogFile>,
    pub size_bytes: u64,
    /// Entries of the index that lie here.
    pub live_entries: u64,
    /// State records whose latest version lies here.
    pub live_states: u64,
    /// Damaged records without a key: nobody can tell that they are dead, so the segment stays.
    pub unreadable: u64,
}

impl Segment {
    fn is_idle(&self, active: u32) -> bool {
        self.id < active && self.live_entries == 0 && self.unreadable == 0
    }
}

#[derive(Default)]
pub(crate) struct Contents {
    pub entries: EntryIndex,
    pub states: StateTable,
    pub segments: BTreeMap<u32, Segment>,
    /// A segment may have died since `take_dead`.
    unswept: bool,
}

impl Contents {
    pub fn groups(&self) -> BTreeSet<u32> {
        self.entries.groups().chain(self.states.groups()).collect()
    }

    pub fn segment(&mut self, id: u32) -> &mut Segment {
        match self.segments.get_mut(&id) {
            Some(segment) => segment,
            None => panic!("segment {id} is known"),
        }
    }

    pub fn add_segment(&mut self, id: u32, file: Arc<dyn LogFile>, size_bytes: u64) {
        let segment = Segment { id, file, size_bytes, live_entries: 0, live_states: 0, unreadable: 0 };
        let previous = self.segments.insert(id, segment);
        assert!(previous.is_none(), "segment {id} is new");
        self.unswept = true;
    }

    pub fn put_entry(&mut self, group: u32, instance: u64, place: Place) {
        let previous = self.entries.set(group, instance, place);
        self.segment(place.segment).live_entries += 1;
        if previous != 0 {
            let segment = self.segment(previous);
            segment.live_entries -= 1;
            self.unswept |= segment.live_entries == 0;
        }
    }

    pub fn put_state(&mut self, group: u32, slot: u64, segment: u32, offset: u32, body: Option<Vec<u8>>) {
        let previous = self.states.durable(group, slot, segment, offset, body);
        self.segment(segment).live_states += 1;
        if previous != 0 {
            let segment = self.segment(previous);
            segment.live_states -= 1;
            self.unswept |= segment.live_entries == 0;
        }
    }

    pub fn truncate(&mut self, group: u32, before: u64) {
        let Contents { entries, segments, unswept, .. } = self;
        entries.truncate(group, before, |id| {
            if let Some(segment) = segments.get_mut(&id) {
                segment.live_entries -= 1;
                *unswept |= segment.live_entries == 0;
            }
        });
    }

    /// Whether `take_dead` is worth a look.
    pub fn may_have_dead(&self) -> bool {
        self.unswept
    }

    /// State records of the segments before `active` in which nothing else lives.
    pub fn states_to_rewrite(&self, active: u32) -> Vec<HeldState> {
        if !self.unswept {
            return Vec::new();
        }
        let idle = self.segments.values().filter(|segment| segment.is_idle(active));
        idle.flat_map(|segment| self.states.held_by(segment.id)).collect()
    }

    /// Segments before `active` in which nothing lives; they are no longer part of the log.
    pub fn take_dead(&mut self, active: u32) -> Vec<u32> {
        if !std::mem::take(&mut self.unswept) {
            return Vec::new();
        }
        let dead = |segment: &&Segment| segment.is_idle(active) && segment.live_states == 0;
        let ids: Vec<u32> = self.segments.values().filter(dead).map(|segment| segment.id).collect();
        for id in &ids {
            self.segments.remove(id);
        }
        ids
    }
}
