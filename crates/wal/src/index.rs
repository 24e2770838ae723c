//! Where the entries are: per group, pages of 256 instances (12 bytes an entry). Pages, not one vector: a hole of any
//! width costs nothing, and truncation frees whole pages.

use std::collections::{BTreeMap, HashMap};

const PAGE_ENTRIES: u64 = 256;

/// A record's place. Segment 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub segment: u32,
    pub offset: u32,
    pub body_bytes: u32,
}

/// An entry and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub instance: u64,
    pub place: Place,
}

struct Page {
    places: [Place; PAGE_ENTRIES as usize],
    used: u32,
}

impl Page {
    fn empty() -> Box<Page> {
        Box::new(Page { places: [Place::default(); PAGE_ENTRIES as usize], used: 0 })
    }

    fn set(&mut self, slot: usize, place: Place, removed: &mut impl FnMut(Place)) {
        let previous = std::mem::replace(&mut self.places[slot], place);
        if previous.segment == 0 {
            self.used += 1;
        } else {
            removed(previous);
        }
    }

    fn clear(&mut self, slots: usize, removed: &mut impl FnMut(Place)) {
        for place in &mut self.places[..slots] {
            if place.segment != 0 {
                removed(*place);
                *place = Place::default();
                self.used -= 1;
            }
        }
    }
}

#[derive(Default)]
struct GroupIndex {
    pages: BTreeMap<u64, Box<Page>>,
}

fn page_of(instance: u64) -> (u64, usize) {
    (instance / PAGE_ENTRIES, (instance % PAGE_ENTRIES) as usize)
}

impl GroupIndex {
    /// Entries of one page are found with one look.
    fn set_all(&mut self, entries: &[(u64, Place)], removed: &mut impl FnMut(Place)) {
        for run in entries.chunk_by(|(one, _), (other, _)| one / PAGE_ENTRIES == other / PAGE_ENTRIES) {
            let (number, _) = page_of(run[0].0);
            let page = self.pages.entry(number).or_insert_with(Page::empty);
            for (instance, place) in run {
                page.set(page_of(*instance).1, *place, removed);
            }
        }
    }

    fn get(&self, instance: u64) -> Option<Place> {
        let (number, slot) = page_of(instance);
        self.pages.get(&number).map(|page| page.places[slot]).filter(|place| place.segment != 0)
    }

    fn bounds(&self) -> Option<(u64, u64)> {
        let (first_page, page) = self.pages.first_key_value()?;
        let first = page.places.iter().position(|place| place.segment != 0)?;
        let (last_page, page) = self.pages.last_key_value()?;
        let last = page.places.iter().rposition(|place| place.segment != 0)?;
        Some((first_page * PAGE_ENTRIES + first as u64, last_page * PAGE_ENTRIES + last as u64))
    }

    fn range(&self, from: u64, through: u64, bytes_max: u64) -> Vec<Located> {
        let mut found = Vec::new();
        let mut bytes = 0;
        if from > through {
            return found;
        }
        for (number, page) in self.pages.range(from / PAGE_ENTRIES..=through / PAGE_ENTRIES) {
            for (slot, place) in page.places.iter().enumerate() {
                let instance = number * PAGE_ENTRIES + slot as u64;
                if place.segment == 0 || instance < from || instance > through {
                    continue;
                }
                if !found.is_empty() && bytes + u64::from(place.body_bytes) > bytes_max {
                    return found;
                }
                bytes += u64::from(place.body_bytes);
                found.push(Located { instance, place: *place });
            }
        }
        found
    }

    fn truncate(&mut self, before: u64, removed: &mut impl FnMut(Place)) {
        let (keep, slots) = page_of(before);
        let kept = self.pages.split_off(&keep);
        for page in self.pages.values_mut() {
            page.clear(PAGE_ENTRIES as usize, removed);
        }
        self.pages = kept;
        if let Some(page) = self.pages.get_mut(&keep) {
            page.clear(slots, removed);
            if page.used == 0 {
                self.pages.remove(&keep);
            }
        }
    }
}

/// Index of all groups. A group that holds no entry is not in it.
#[derive(Default)]
pub(crate) struct EntryIndex {
    groups: HashMap<u32, GroupIndex>,
}

impl EntryIndex {
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.groups.keys().copied()
    }

    /// Bytes that the pages take.
    pub fn bytes(&self) -> u64 {
        let pages: usize = self.groups.values().map(|group| group.pages.len()).sum();
        (pages * size_of::<Page>()) as u64
    }

    /// Takes the entries of a group; `removed` is told of each place that one of them takes over.
    pub fn set_all(&mut self, group: u32, entries: &[(u64, Place)], mut removed: impl FnMut(Place)) {
        self.groups.entry(group).or_default().set_all(entries, &mut removed);
    }

    pub fn get(&self, group: u32, instance: u64) -> Option<Place> {
        self.groups.get(&group)?.get(instance)
    }

    pub fn bounds(&self, group: u32) -> Option<(u64, u64)> {
        self.groups.get(&group)?.bounds()
    }

    /// Places of from <= instance <= through, ascending, until `bytes_max` bytes of bodies (one entry at least).
    pub fn range(&self, group: u32, from: u64, through: u64, bytes_max: u64) -> Vec<Located> {
        self.groups.get(&group).map_or_else(Vec::new, |index| index.range(from, through, bytes_max))
    }

    /// Drops the entries below `before`; `removed` is told of each.
    pub fn truncate(&mut self, group: u32, before: u64, mut removed: impl FnMut(Place)) {
        if let Some(index) = self.groups.get_mut(&group) {
            index.truncate(before, &mut removed);
            if index.pages.is_empty() {
                self.groups.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u32) -> Place {
        Place { segment, offset: 4096, body_bytes: 10 }
    }

    /// Takes one entry; returns the segment of the one before.
    fn set(index: &mut EntryIndex, group: u32, instance: u64, place: Place) -> u32 {
        let mut previous = 0;
        index.set_all(group, &[(instance, place)], |removed| previous = removed.segment);
        previous
    }

    #[test]
    fn holes_cost_nothing_and_bounds_hold() {
        let mut index = EntryIndex::default();
        assert_eq!(set(&mut index, 7, 3, place(1)), 0);
        assert_eq!(set(&mut index, 7, 1 << 52, place(2)), 0);
        assert_eq!(set(&mut index, 7, 3, place(4)), 1);
        assert_eq!(index.bounds(7), Some((3, 1 << 52)));
        assert_eq!(index.bytes(), 2 * size_of::<Page>() as u64);
        assert_eq!(index.get(7, 4), None);
        assert_eq!(index.get(8, 3), None);
    }

    #[test]
    fn entries_of_several_pages_are_taken_at_once() {
        let mut index = EntryIndex::default();
        let entries: Vec<(u64, Place)> = (200..600).map(|instance| (instance, place(1))).collect();
        index.set_all(1, &entries, |_| panic!("nothing was there"));
        let mut removed = 0;
        index.set_all(1, &entries[100..], |_| removed += 1);
        assert_eq!((removed, index.bounds(1)), (300, Some((200, 599))));
        assert!(size_of::<Page>() as u64 <= 16 * PAGE_ENTRIES);
    }

    #[test]
    fn a_range_ends_at_its_limit_but_has_one_entry() {
        let mut index = EntryIndex::default();
        for instance in [250, 255, 256, 300] {
            set(&mut index, 1, instance, place(1));
        }
        let instances = |from, through, bytes_max| -> Vec<u64> {
            index.range(1, from, through, bytes_max).iter().map(|located| located.instance).collect()
        };
        assert_eq!(instances(0, 1000, 1000), [250, 255, 256, 300]);
        assert_eq!(instances(251, 299, 1000), [255, 256]);
        assert_eq!(instances(0, 1000, 0), [250]);
        assert_eq!(instances(0, 1000, 20), [250, 255]);
        assert_eq!(instances(5, 4, 20), Vec::<u64>::new());
    }

    #[test]
    fn truncation_tells_each_segment_and_forgets_empty_groups() {
        let mut index = EntryIndex::default();
        for instance in 0..600 {
            set(&mut index, 1, instance, place(1 + (instance / 200) as u32));
        }
        let mut removed = [0; 4];
        index.truncate(1, 450, |place| removed[place.segment as usize] += 1);
        assert_eq!(removed, [0, 200, 200, 50]);
        assert_eq!(index.bounds(1), Some((450, 599)));
        index.truncate(1, 600, |_| {});
        assert_eq!(index.groups().count(), 0);
    }
}
