//! What a log holds: entries, states and segments, with the count of what lives in each segment.

use crate::format::{KIND_ENTRY, KIND_STATE, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, record_bytes};
use crate::index::{EntryIndex, Place};
use crate::segment_file::SegmentFile;
use crate::states::{StatePlace, StateTable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A segment file and how much of it lives.
pub(crate) struct Segment {
    pub id: u32,
    pub file: Arc<SegmentFile>,
    pub size_bytes: u64,
    /// Records of which the index or the state table holds the place, and their bytes.
    pub live_records: u64,
    pub live_bytes: u64,
    /// Damaged records without a key: nobody can tell that they are dead, so the segment stays.
    pub unreadable: u64,
    /// Held such damage, which was replaced since: what lives here is moved, however much it is.
    pub condemned: bool,
    /// Offsets of live records that are damaged: they are neither dropped nor copied.
    pub damaged: BTreeSet<u32>,
}

impl Segment {
    fn is_dead(&self) -> bool {
        self.live_records == 0 && self.unreadable == 0
    }

    /// Whether at most half of what fits into the segment lives. Of more, the copies might fill the newest segment no
    /// better than the segment was filled, and the moving would never end.
    fn is_worth_moving(&self) -> bool {
        2 * self.live_bytes + u64::from(SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES) <= self.size_bytes
    }
}

/// The key of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub kind: u8,
    pub group: u32,
    pub instance: u64,
}

#[derive(Default)]
pub(crate) struct Contents {
    pub entries: EntryIndex,
    pub states: StateTable,
    /// In the order of their ids.
    pub segments: Segments,
}

/// The segments, and the sums over them.
#[derive(Default)]
pub(crate) struct Segments {
    by_id: BTreeMap<u32, Segment>,
    size_bytes: u64,
    live_bytes: u64,
    /// How many are dead. The newest may be among them.
    dead: usize,
    /// How many are condemned.
    condemned: usize,
}

impl Segments {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Bytes of all segment files.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes of the records that live.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.by_id.keys().copied()
    }

    pub fn contains(&self, id: u32) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn get(&self, id: u32) -> &Segment {
        match self.by_id.get(&id) {
            Some(segment) => segment,
            None => panic!("segment {id} is known"),
        }
    }

    pub fn add(&mut self, id: u32, file: Arc<SegmentFile>, size_bytes: u64) {
        let (damaged, condemned) = (BTreeSet::new(), false);
        let segment =
            Segment { id, file, size_bytes, live_records: 0, live_bytes: 0, unreadable: 0, condemned, damaged };
        let previous = self.by_id.insert(id, segment);
        assert!(previous.is_none(), "segment {id} is new");
        self.size_bytes += size_bytes;
        self.dead += 1;
    }

    /// Takes a segment out; returns its file and size.
    pub fn remove(&mut self, id: u32) -> Option<(Arc<SegmentFile>, u64)> {
        let segment = self.by_id.remove(&id)?;
        self.size_bytes -= segment.size_bytes;
        self.live_bytes -= segment.live_bytes;
        self.dead -= usize::from(segment.is_dead());
        self.condemned -= usize::from(segment.condemned);
        Some((segment.file, segment.size_bytes))
    }

    /// Changes the counts of a segment, and the sums with them.
    pub fn update<T>(&mut self, id: u32, change: impl FnOnce(&mut Segment) -> T) -> T {
        let Some(segment) = self.by_id.get_mut(&id) else { panic!("segment {id} is known") };
        let (dead, condemned, live_bytes) = (segment.is_dead(), segment.condemned, segment.live_bytes);
        let result = change(segment);
        self.dead = self.dead + usize::from(segment.is_dead()) - usize::from(dead);
        self.condemned = self.condemned + usize::from(segment.condemned) - usize::from(condemned);
        self.live_bytes = self.live_bytes + segment.live_bytes - live_bytes;
        result
    }

    fn add_live(&mut self, id: u32, records: u64, bytes: u64) {
        self.update(id, |segment| {
            segment.live_records += records;
            segment.live_bytes += bytes;
        });
    }

    fn remove_live(&mut self, place: Place) {
        self.update(place.segment, |segment| {
            segment.live_records -= 1;
            segment.live_bytes -= record_bytes(place.body_bytes);
            segment.damaged.remove(&place.offset);
        });
    }
}

impl Contents {
    pub fn groups(&self) -> BTreeSet<u32> {
        self.entries.groups().chain(self.states.groups()).collect()
    }

    /// Takes entries of one group and segment, in place of older ones of the same keys.
    pub fn put_entries(&mut self, group: u32, entries: &[(u64, Place)]) {
        let Contents { entries: index, segments, .. } = self;
        let Some((_, first)) = entries.first() else { return };
        let bytes = entries.iter().map(|(_, place)| record_bytes(place.body_bytes)).sum();
        segments.add_live(first.segment, entries.len() as u64, bytes);
        index.set_all(group, entries, |place| segments.remove_live(place));
    }

    /// Takes a state record in place of an older one of the same key; no `body` if it is damaged.
    pub fn put_state(&mut self, group: u32, slot: u64, place: Place, body: Option<Vec<u8>>) {
        self.segments.add_live(place.segment, 1, record_bytes(place.body_bytes));
        if let Some(previous) = self.states.set(group, slot, StatePlace { place, body }) {
            self.segments.remove_live(previous);
        }
    }

    /// Place of the record that holds for a key.
    pub fn place_of(&self, key: Key) -> Option<Place> {
        match key.kind {
            KIND_ENTRY => self.entries.get(key.group, key.instance),
            KIND_STATE => self.states.get_place(key.group, key.instance).map(|state| state.place),
            _ => None,
        }
    }

    /// Whether the record at this place is the one that holds for its key.
    pub fn is_live(&self, key: Key, segment: u32, offset: u32) -> bool {
        self.place_of(key).is_some_and(|place| (place.segment, place.offset) == (segment, offset))
    }

    pub fn truncate(&mut self, group: u32, before: u64) {
        let Contents { entries, segments, .. } = self;
        entries.truncate(group, before, |place| segments.remove_live(place));
    }

    /// Whether there is a segment before `active`, the newest, in which nothing lives.
    pub fn has_dead_before(&self, active: u32) -> bool {
        self.segments.dead > usize::from(self.segments.get(active).is_dead())
    }

    /// Segments before `active` in which nothing lives.
    pub fn dead_before(&self, active: u32) -> Vec<u32> {
        if !self.has_dead_before(active) {
            return Vec::new();
        }
        self.segments.by_id.values().filter(|segment| segment.id < active && segment.is_dead()).map(|s| s.id).collect()
    }

    /// Damaged records without a key hold no segment any more: what lives there besides is to be moved.
    pub fn condemn_unreadable(&mut self) {
        let unreadable = |segment: &&Segment| segment.unreadable > 0;
        let ids: Vec<u32> = self.segments.by_id.values().filter(unreadable).map(|segment| segment.id).collect();
        for id in ids {
            self.segments.update(id, |segment| {
                segment.unreadable = 0;
                segment.condemned = true;
            });
        }
    }

    /// The segment before `active` that is rewritten next: one that is condemned; else the one with the fewest live
    /// bytes, if the sealed segments take more than twice the bytes that live in them and `slack_bytes`.
    pub fn sparse_before(&self, active: u32, slack_bytes: u64) -> Option<u32> {
        let newest = self.segments.get(active);
        let (size_bytes, live_bytes) = (self.segments.size_bytes, self.segments.live_bytes);
        let sparse = size_bytes - newest.size_bytes > 2 * (live_bytes - newest.live_bytes) + slack_bytes;
        if !sparse && self.segments.condemned == 0 {
            return None;
        }
        let mut sparsest: Option<&Segment> = None;
        for segment in self.segments.by_id.values() {
            if segment.id >= active || segment.unreadable > 0 || !segment.damaged.is_empty() {
                continue;
            }
            if segment.condemned {
                return Some(segment.id);
            }
            let sparser = sparsest.is_none_or(|found| segment.live_bytes < found.live_bytes);
            if sparse && sparser && segment.is_worth_moving() {
                sparsest = Some(segment);
            }
        }
        sparsest.map(|segment| segment.id)
    }
}
