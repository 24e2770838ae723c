//! What the log does beside writing, on a thread of its own, without holding the writer up: removes dead segments,
//! prepares the spare, moves what lives out of sparse segments, and keeps the high-water marks.

use crate::contents::Key;
use crate::error::{Result, is_lack_of_descriptors, is_lack_of_space};
use crate::format::{KIND_STATE, record_bytes};
use crate::marks::{Marks, SEGMENTS_MAX};
use crate::segment_file::SegmentFile;
use crate::segment_reader::SegmentReader;
use crate::shared::{InWork, SPACE_RETRY, Shared, State, poisoned};
use crate::spare_segments::Spare;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes of records that are copied by one batch.
const COPY_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    marks: Marks,
    rewriting: Option<Rewriting>,
}

struct Rewriting {
    reader: SegmentReader,
    /// A record was left because its successor is on its way.
    skipped: bool,
}

struct CopiedRecord {
    key: Key,
    offset: u32,
    body: Vec<u8>,
}

impl Keeper {
    pub fn new(shared: Arc<Shared>, marks: Marks) -> Self {
        Keeper { shared, marks, rewriting: None }
    }

    /// Works until it is stopped, or until something fails. Returns the marks for the one who closes.
    pub fn run(mut self) -> Marks {
        let shared = Arc::clone(&self.shared);
        loop {
            let state = self.wait(shared.state());
            if state.keeper.stopped {
                break;
            }
            drop(state);
            if let Err(failure) = self.work() {
                shared.fail(failure);
            }
            let mut state = shared.state();
            state.keeper.running = false;
            state.arm_marks();
        }
        self.rewriting = None;
        let mut state = shared.state();
        state.keeper.running = false;
        shared.tell_settled(&mut state);
        drop(state);
        self.marks
    }

    /// Waits for something to do.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        loop {
            let now = Instant::now();
            if state.keeper.marks_at.is_some_and(|at| at <= now) {
                state.keeper.marks_at = None;
                state.keeper.marks_due = true;
                state.keeper.woken = true;
            }
            if state.keeper.retry_at.is_some_and(|at| at <= now) {
                state.keeper.retry_at = None;
                state.keeper.retry_due = true;
                state.keeper.woken = true;
            }
            if state.keeper.stopped {
                return state;
            }
            if state.keeper.woken {
                state.keeper.running = true;
                return state;
            }
            self.shared.tell_settled(&mut state);
            let times = [state.keeper.marks_at, state.keeper.retry_at];
            let wake = &self.shared.keeper_wake;
            state = match times.into_iter().flatten().min() {
                None => self.shared.wait(wake, state),
                Some(until) => {
                    let timeout = until.saturating_duration_since(now);
                    wake.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Does one thing after the other until there is nothing to do.
    fn work(&mut self) -> Result<()> {
        loop {
            let mut state = self.shared.state();
            if state.keeper.stopped {
                return Ok(());
            }
            state.keeper.woken = false;
            drop(state);
            let did = self.remove_dead()? || self.prepare_spare()? || self.copy_live() || self.write_marks()?;
            if !did && !self.shared.state().keeper.woken {
                return Ok(());
            }
        }
    }

    fn remove_dead(&mut self) -> Result<bool> {
        let state = self.shared.state();
        if !state.contents.has_dead_before(state.active) {
            return Ok(false);
        }
        drop(state);
        // What was moved out of them must be durable.
        self.shared.sync_written().map_err(|error| poisoned(&error))?;
        let state = self.shared.state();
        let dead = state.contents.dead_before(state.active);
        // First the marks: a file that they list and that is gone is a loss.
        let dead = self.removable(&state, dead);
        let record = state.marks_record(&dead);
        drop(state);
        if dead.is_empty() {
            return Ok(false);
        }
        self.marks.write(&record).map_err(|error| poisoned(&error))?;
        self.shared.state().keeper.marked = record.durable;
        for id in dead {
            self.remove(id)?;
        }
        self.shared.files.sync_folder(&self.shared.folder).map_err(|error| poisoned(&error))?;
        // What they took may be enough.
        self.shared.state().keeper.retry_due = true;
        Ok(true)
    }

    /// Those of them that nobody reads, or that can be read without their names.
    fn removable(&self, state: &State, dead: Vec<u32>) -> Vec<u32> {
        let is_free = |file: &Arc<SegmentFile>| Arc::strong_count(file) == 1 || file.hold().is_ok();
        dead.into_iter().filter(|id| is_free(&state.contents.segments.get(*id).file)).collect()
    }

    fn remove(&mut self, id: u32) -> Result<()> {
        if self.rewriting.as_ref().is_some_and(|rewriting| rewriting.reader.segment() == id) {
            self.set_rewriting(None);
        }
        let mut state = self.shared.state();
        let Some((file, size_bytes)) = state.contents.segments.remove(id) else { return Ok(()) };
        let takes = state.spares.takes();
        drop(state);
        // Nobody gets it from now on; one who reads it still must not see it change.
        let is_read = Arc::strong_count(&file) > 1;
        drop(file);
        let kept = takes && !is_read && size_bytes == u64::from(self.shared.options.segment_bytes);
        self.shared.spare_work().retire(id, kept).map_err(|error| poisoned(&error))?;
        if kept {
            self.shared.state().spares.retired.push_back(id);
        }
        Ok(())
    }

    fn prepare_spare(&mut self) -> Result<bool> {
        let mut state = self.shared.state();
        let id = state.active + 1;
        if state.spares.has(id) || (state.low_on_space && !state.keeper.retry_due) {
            return Ok(false);
        }
        state.keeper.retry_due = false;
        if state.contents.segments.len() + state.missing.len() >= SEGMENTS_MAX {
            self.lack_space(&mut state);
            return Ok(true);
        }
        let retired = state.spares.retired.front().copied();
        drop(state);
        match self.make_spare(id, retired) {
            Ok(spare) => {
                let mut state = self.shared.state();
                state.spares.spare = Some(spare);
                self.shared.set_low_on_space(&mut state, false);
                drop(state);
                self.shared.writer_wake.notify_one();
            }
            Err(error) if is_lack_of_space(&error) => self.lack_space(&mut self.shared.state()),
            Err(error) => return Err(poisoned(&error)),
        }
        Ok(true)
    }

    fn make_spare(&self, id: u32, retired: Option<u32>) -> io::Result<Spare> {
        let work = self.shared.spare_work();
        let reused = retired.map(|retired| work.reuse(retired, id)).transpose()?;
        if reused.is_some() {
            self.shared.state().spares.retired.pop_front();
        }
        work.prepare(id, reused)
    }

    fn lack_space(&self, state: &mut State) {
        state.keeper.retry_at = Some(Instant::now() + SPACE_RETRY);
        self.shared.set_low_on_space(state, true);
    }

    /// Appends a portion of what lives in a sparse segment again. The next portion follows when it is durable.
    fn copy_live(&mut self) -> bool {
        let Some(mut rewriting) = self.begin_rewriting() else { return false };
        let segment = rewriting.reader.segment();
        let portion = self.read_portion(&mut rewriting.reader);
        if !portion.is_empty() {
            return self.copy(rewriting, &portion);
        }
        self.set_rewriting(None);
        let mut state = self.shared.state();
        state.contents.segments.update(segment, |segment| {
            // What still lives there should have been found.
            if segment.live_records > 0 && segment.damaged.is_empty() && !rewriting.skipped {
                segment.unreadable += 1;
            }
            segment.live_records == 0
        })
    }

    /// The segment that is being rewritten, or the next one.
    fn begin_rewriting(&mut self) -> Option<Rewriting> {
        let state = self.shared.state();
        if state.keeper.copying {
            return None;
        }
        if let Some(rewriting) = self.rewriting.take() {
            return Some(rewriting);
        }
        let id = state.sparse_segment()?;
        let segment = state.contents.segments.get(id);
        let (file, size_bytes) = (Arc::clone(&segment.file), segment.size_bytes);
        drop(state);
        match file.open() {
            Ok(file) => {
                let reader = SegmentReader::new(file, id, &self.shared.options.identity, size_bytes);
                Some(Rewriting { reader, skipped: false })
            }
            Err(error) => {
                // Neither copied nor dropped: the segment stays, for now or for good.
                if !is_lack_of_descriptors(&error) {
                    self.shared.state().contents.segments.update(id, |segment| segment.unreadable += 1);
                }
                None
            }
        }
    }

    fn set_rewriting(&mut self, rewriting: Option<Rewriting>) {
        self.shared.state().keeper.rewriting = rewriting.is_some();
        self.rewriting = rewriting;
    }

    /// The next live records of the segment, until there are enough for one batch.
    fn read_portion(&self, reader: &mut SegmentReader) -> Vec<CopiedRecord> {
        let segment = reader.segment();
        let mut portion = Vec::new();
        let mut bytes = 0;
        while bytes < COPY_BYTES_MAX {
            let is_live = |key, offset| self.shared.state().contents.is_live(key, segment, offset);
            let Ok(next) = reader.next(is_live) else {
                // Neither copied nor dropped: the segment stays.
                self.shared.state().contents.segments.update(segment, |segment| segment.unreadable += 1);
                break;
            };
            let Some(record) = next else { break };
            let mut state = self.shared.state();
            // A state record is copied from memory: there it is known to be good.
            let place = state.contents.states.get_place(record.key.group, record.key.instance);
            let from_memory = place.and_then(|place| place.body.clone());
            let body = if record.key.kind == KIND_STATE { from_memory } else { record.body };
            let Some(body) = body else {
                state.contents.segments.update(segment, |segment| segment.damaged.insert(record.offset));
                break;
            };
            bytes += record_bytes(body.len() as u32);
            portion.push(CopiedRecord { key: record.key, offset: record.offset, body });
        }
        portion
    }

    fn copy(&mut self, mut rewriting: Rewriting, portion: &[CopiedRecord]) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        // The records that the writer has are not in the queue any more: their keys must be seen.
        while matches!(state.in_work, InWork::Sealing) && !state.writer_ended {
            state = shared.wait(&shared.keeper_wake, state);
        }
        // The log is closed, or has failed: nobody would write the copies.
        if state.writer_ended || state.keeper.stopped {
            return false;
        }
        let segment = rewriting.reader.segment();
        let lives = |record: &&CopiedRecord| state.contents.is_live(record.key, segment, record.offset);
        let living: Vec<&CopiedRecord> = portion.iter().filter(lives).collect();
        let successors = successors_on_their_way(&state, &living);
        // A successor that is on its way must stay the later one.
        let is_latest = |record: &&&CopiedRecord| !successors.contains(&record.key);
        let copies: Vec<(Key, &[u8])> =
            living.iter().filter(is_latest).map(|record| (record.key, record.body.as_slice())).collect();
        rewriting.skipped |= copies.len() < living.len();
        let bytes: u64 = copies.iter().map(|(_, body)| record_bytes(body.len() as u32)).sum();
        // The rest of the newest segment is spent only on what frees a segment.
        let frees = || state.queue.fits(state.contents.segments.get(segment).live_bytes);
        let waits_for_space = !copies.is_empty() && state.low_on_space && !frees();
        if !waits_for_space && !copies.is_empty() {
            state.keeper.rewritten_bytes += bytes;
            state.keeper.copying = true;
            state.queue.append_copies(&copies, segment);
            shared.writer_wake.notify_one();
        }
        drop(state);
        self.set_rewriting(Some(rewriting).filter(|_| !waits_for_space));
        !waits_for_space
    }

    fn write_marks(&mut self) -> Result<bool> {
        let mut state = self.shared.state();
        if !std::mem::take(&mut state.keeper.marks_due) {
            return Ok(false);
        }
        let record = state.marks_record(&[]);
        drop(state);
        self.marks.write(&record).map_err(|error| poisoned(&error))?;
        self.shared.state().keeper.marked = record.durable;
        Ok(true)
    }
}

/// Keys of the records of which a newer version waits or is being written.
fn successors_on_their_way(state: &State, records: &[&CopiedRecord]) -> HashSet<Key> {
    let mut keys: HashSet<Key> = records.iter().map(|record| record.key).collect();
    let mut found = HashSet::new();
    state.queue.move_keys(&mut keys, &mut found);
    if let InWork::Writing(batch) = &state.in_work {
        batch.move_keys(&mut keys, &mut found);
    }
    found
}
