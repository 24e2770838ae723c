//! Frames appended records and gathers them into batches: what is appended while one batch is being written and synced
//! makes up the next one. Positions are settled at once, because batches are written in order and a failed one ends the
//! log; checksums are the writing thread's work (`Chain`).

use crate::contents::Key;
use crate::engine::Record;
use crate::error::{ErrorCode, LogError, Result};
use crate::format::{
    FLAG_CONTINUES, Identity, KIND_SEAL, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, decode_record_header,
    push_record_header, record_bytes, seal_record, segment_seed,
};
use std::collections::{HashSet, VecDeque};

/// A batch is closed when it holds this much: one write and one sync.
const BATCH_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Appends are refused while more than this waits to be written.
pub(crate) const PENDING_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Buffers of batches that were written are used again: fresh memory costs a page fault each 4 KiB.
const BUFFERS_KEPT_MAX: usize = 3;
/// What does not fit into a full one was an append of very many bytes.
const BUFFER_BYTES_KEPT_MAX: usize = 2 * BATCH_BYTES_MAX as usize;

/// Where the next record goes.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    pub segment: u32,
    pub offset: u64,
    pub link: u32,
    /// The segment takes no record any more, and there is no space for the next one yet.
    pub sealed: bool,
}

/// One write: framed records that follow each other in one segment.
pub(crate) struct Batch {
    pub segment: u32,
    pub start: u64,
    pub bytes: Vec<u8>,
    /// Appends that are durable when this batch is.
    pub appends: u32,
    /// Segment that the records were copied from, 0 for records that are new.
    pub copied_from: u32,
    /// When it is durable, all copies of one call of `append_copies` are.
    pub ends_copies: bool,
}

impl Batch {
    /// Headers of its records, and where they start.
    pub fn records(&self) -> impl Iterator<Item = (usize, RecordHeader)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let header = decode_record_header(self.bytes.get(at..).filter(|rest| !rest.is_empty())?);
            let start = at;
            at += record_bytes(header.body_bytes) as usize;
            Some((start, header))
        })
    }

    /// Moves those of the keys that one of its records has from `keys` to `found`.
    pub fn move_keys(&self, keys: &mut HashSet<Key>, found: &mut HashSet<Key>) {
        for (_, RecordHeader { kind, group, instance, .. }) in self.records() {
            found.extend(keys.take(&Key { kind, group, instance }));
        }
    }
}

pub(crate) struct AppendQueue {
    segment_bytes: u64,
    batches: VecDeque<Batch>,
    buffers: Vec<Vec<u8>>,
    segment: u32,
    offset: u64,
    /// The log was opened behind a seal, and nothing was appended since.
    sealed: bool,
    pending_bytes: u64,
}

impl AppendQueue {
    pub fn new(segment_bytes: u32, tail: &Tail) -> Self {
        AppendQueue {
            segment_bytes: u64::from(segment_bytes),
            batches: VecDeque::new(),
            buffers: Vec::new(),
            segment: tail.segment,
            offset: tail.offset,
            sealed: tail.sealed,
            pending_bytes: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Frames the records behind all others if they may be taken. An error (SizeTooLarge, FastReject, Full if they need
    /// another segment and may not `rotate`) changes nothing.
    pub fn append(&mut self, records: &[Record], rotate: bool) -> Result<()> {
        let bytes = self.measure(records)?;
        if self.pending_bytes + bytes > PENDING_BYTES_MAX {
            let message = format!("{} bytes wait for the disk (limit {PENDING_BYTES_MAX})", self.pending_bytes);
            return Err(LogError::new(ErrorCode::FastReject, message));
        }
        if !rotate && bytes > 0 && !self.fits(bytes) {
            let message = "the newest segment of the log is full, and the disk has no space for another";
            return Err(LogError::new(ErrorCode::Full, message));
        }
        self.append_measured(records, bytes);
        Ok(())
    }

    /// The same of records that were promised to be taken: only SizeTooLarge refuses them.
    pub fn append_accepted(&mut self, records: &[Record]) -> Result<()> {
        let bytes = self.measure(records)?;
        self.append_measured(records, bytes);
        Ok(())
    }

    fn append_measured(&mut self, records: &[Record], bytes: u64) {
        self.make_room(bytes, 0);
        let index = self.open_batch(bytes, 0);
        for (number, record) in records.iter().enumerate() {
            let flags = if number + 1 < records.len() { FLAG_CONTINUES } else { 0 };
            self.frame(index, flags, record);
        }
        self.batches[index].appends += 1;
    }

    /// Appends copies of records that lie in the segment `copied_from`, each for itself, in batches of their own. There
    /// must be one at least, and it must be known that there is room.
    pub fn append_copies(&mut self, copies: &[(Key, &[u8])], copied_from: u32) {
        assert!(!copies.is_empty(), "there is something to copy");
        for (Key { kind, group, instance }, body) in copies {
            let body: &[&[u8]] = &[body];
            let record = Record { kind: *kind, group: *group, instance: *instance, body };
            let bytes = framed_bytes(&record);
            self.make_room(bytes, copied_from);
            let index = self.open_batch(bytes, copied_from);
            self.frame(index, 0, &record);
        }
        if let Some(last) = self.batches.back_mut() {
            last.ends_copies = true;
        }
    }

    /// Whether records of `bytes` in all fit into the present segment.
    pub fn fits(&self, bytes: u64) -> bool {
        !self.sealed && self.offset + bytes + u64::from(RECORD_HEADER_BYTES) <= self.segment_bytes
    }

    /// Moves those of the keys that a record has which waits here from `keys` to `found`.
    pub fn move_keys(&self, keys: &mut HashSet<Key>, found: &mut HashSet<Key>) {
        for batch in &self.batches {
            batch.move_keys(keys, found);
        }
    }

    /// The oldest batch, no longer open to appends; the caller gives its buffer back with `recycle`.
    pub fn take(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.pending_bytes -= batch.bytes.len() as u64;
        Some(batch)
    }

    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= BUFFER_BYTES_KEPT_MAX && self.buffers.len() < BUFFERS_KEPT_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    fn measure(&self, records: &[Record]) -> Result<u64> {
        let bytes: u64 = records.iter().map(framed_bytes).sum();
        let room_bytes = self.segment_bytes - u64::from(SEGMENT_HEADER_BYTES) - u64::from(RECORD_HEADER_BYTES);
        if bytes > room_bytes {
            let message = format!("an append of {bytes} bytes does not fit into a segment ({room_bytes})");
            return Err(LogError::new(ErrorCode::SizeTooLarge, message));
        }
        Ok(bytes)
    }

    /// Seals the segment and goes on to the next one if `bytes` and a seal do not fit.
    fn make_room(&mut self, bytes: u64, copied_from: u32) {
        if bytes == 0 || self.fits(bytes) {
            return;
        }
        if !self.sealed {
            let index = self.open_batch(u64::from(RECORD_HEADER_BYTES), copied_from);
            self.frame(index, 0, &Record { kind: KIND_SEAL, group: 0, instance: 0, body: &[] });
        }
        self.sealed = false;
        self.segment += 1;
        self.offset = u64::from(SEGMENT_HEADER_BYTES);
    }

    /// Index of the batch that takes the next `bytes`.
    fn open_batch(&mut self, bytes: u64, copied_from: u32) -> usize {
        if let Some(last) = self.batches.back() {
            let fits = last.bytes.len() as u64 + bytes <= BATCH_BYTES_MAX;
            if last.segment == self.segment && last.copied_from == copied_from && fits {
                return self.batches.len() - 1;
            }
        }
        let bytes = self.buffers.pop().unwrap_or_default();
        let Self { segment, offset: start, .. } = *self;
        self.batches.push_back(Batch { segment, start, bytes, appends: 0, copied_from, ends_copies: false });
        self.batches.len() - 1
    }

    fn frame(&mut self, index: usize, flags: u8, record: &Record) {
        let batch = &mut self.batches[index];
        let Record { kind, group, instance, body } = *record;
        let body_bytes = body_bytes(record) as u32;
        // Batches lie in a segment, whose size fits into 32 bits.
        let header =
            RecordHeader { kind, flags, group, instance, body_bytes, batch: batch.start as u32, ..Default::default() };
        push_record_header(&mut batch.bytes, &header);
        for part in body {
            batch.bytes.extend_from_slice(part);
        }
        batch.bytes.resize(batch.bytes.len().next_multiple_of(8), 0);
        let bytes = record_bytes(body_bytes);
        self.offset += bytes;
        self.pending_bytes += bytes;
    }
}

fn body_bytes(record: &Record) -> u64 {
    record.body.iter().map(|part| part.len() as u64).sum()
}

fn framed_bytes(record: &Record) -> u64 {
    u64::from(RECORD_HEADER_BYTES) + body_bytes(record).next_multiple_of(8)
}

/// The chain of checksums through the log.
pub(crate) struct Chain {
    identity: Identity,
    segment: u32,
    seed: u32,
    link: u32,
}

impl Chain {
    pub fn new(identity: Identity, tail: &Tail) -> Self {
        let seed = segment_seed(&identity, tail.segment);
        Chain { identity, segment: tail.segment, seed, link: tail.link }
    }

    /// Fills in links and checksums of the batch that is written next.
    pub fn seal(&mut self, batch: &mut Batch) {
        if batch.segment != self.segment {
            self.segment = batch.segment;
            self.seed = segment_seed(&self.identity, batch.segment);
            self.link = self.seed;
        }
        let mut at = 0;
        while at < batch.bytes.len() {
            let offset = (batch.start + at as u64) as u32;
            let record = &mut batch.bytes[at..];
            self.link = seal_record(record, offset, self.seed, self.link);
            at += record_bytes(decode_record_header(record).body_bytes) as usize;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::KIND_ENTRY;

    const SEGMENT_BYTES: u32 = 64 * 1024 * 1024;

    fn queue() -> AppendQueue {
        let tail = Tail { segment: 1, offset: u64::from(SEGMENT_HEADER_BYTES), link: 0, sealed: false };
        AppendQueue::new(SEGMENT_BYTES, &tail)
    }

    fn entry<'a>(body: &'a [&'a [u8]]) -> Record<'a> {
        Record { kind: KIND_ENTRY, group: 1, instance: 1, body }
    }

    #[test]
    fn what_waits_is_limited_and_a_refusal_changes_nothing() {
        let mut queue = queue();
        let large = vec![0; 4 * 1024 * 1024 - RECORD_HEADER_BYTES as usize];
        let body: [&[u8]; 1] = [&large];
        let record = [entry(&body)];
        for _ in 0..PENDING_BYTES_MAX / (4 * 1024 * 1024) {
            // The seal of a full segment counts, too.
            let _ = queue.append(&record, true);
        }
        let batches = queue.batches.len();
        assert_eq!(queue.append(&record, true).unwrap_err().code, ErrorCode::FastReject);
        assert_eq!(queue.batches.len(), batches);
        assert!(queue.take().is_some_and(|batch| batch.start == u64::from(SEGMENT_HEADER_BYTES)));
        queue.append(&record, true).unwrap();
    }

    #[test]
    fn batches_follow_each_other_and_end_with_their_segment() {
        let mut queue = queue();
        let large = vec![1; 3 * 1024 * 1024];
        for _ in 0..25 {
            queue.append(&[entry(&[&large])], true).unwrap();
        }
        let (mut segment, mut offset, mut appends) = (1, u64::from(SEGMENT_HEADER_BYTES), 0);
        while let Some(batch) = queue.take() {
            if batch.segment != segment {
                (segment, offset) = (batch.segment, u64::from(SEGMENT_HEADER_BYTES));
            }
            assert_eq!(batch.start, offset);
            assert!(batch.bytes.len() as u64 <= BATCH_BYTES_MAX);
            offset += batch.bytes.len() as u64;
            assert!(offset <= u64::from(SEGMENT_BYTES));
            appends += batch.appends;
        }
        assert_eq!((segment, appends), (2, 25));
    }

    #[test]
    fn what_needs_another_segment_is_refused_where_there_is_none() {
        let mut queue = queue();
        let large = vec![1; 3 * 1024 * 1024];
        while queue.append(&[entry(&[&large])], false).is_ok() {}
        let pending_bytes = queue.pending_bytes;
        assert_eq!(queue.append(&[entry(&[&large])], false).unwrap_err().code, ErrorCode::Full);
        assert_eq!(queue.pending_bytes, pending_bytes);
        queue.append(&[entry(&[b"small"])], false).unwrap();
        queue.append(&[], false).unwrap();
    }

    #[test]
    fn copies_have_batches_of_their_own() {
        let mut queue = queue();
        let key = |instance| Key { kind: KIND_ENTRY, group: 1, instance };
        queue.append(&[entry(&[b"new"])], true).unwrap();
        queue.append_copies(&[(key(2), b"two"), (key(3), b"three")], 7);
        queue.append(&[entry(&[b"newer"])], true).unwrap();
        let (mut keys, mut found) = (HashSet::from([key(1), key(3), key(9)]), HashSet::new());
        queue.move_keys(&mut keys, &mut found);
        assert_eq!((keys, found), (HashSet::from([key(9)]), HashSet::from([key(1), key(3)])));
        let batches: Vec<Batch> = std::iter::from_fn(|| queue.take()).collect();
        let seen: Vec<_> = batches.iter().map(|batch| (batch.copied_from, batch.appends, batch.ends_copies)).collect();
        assert_eq!(seen, [(0, 1, false), (7, 0, true), (0, 1, false)]);
        let instances: Vec<u64> = batches[1].records().map(|(_, header)| header.instance).collect();
        assert_eq!(instances, [2, 3]);
    }
}
