//! What a segment file holds, as its bytes alone tell. Nothing else is needed to read one, so several are read at a time.

use crate::contents::Key;
use crate::engine::Options;
use crate::error::{LogError, Result};
use crate::files::{LogFile, LogFiles};
use crate::format::{
    KIND_STATE, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, check_segment_header,
    segment_name, segment_seed,
};
use crate::index::Place;
use crate::scan::{ScannedRecord, SegmentScan, scan_segment};
use crate::segment_bytes::SegmentBytes;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Threads that read. Each holds a segment in memory.
const READERS: usize = 2;
/// Fewer segments are read faster than threads are started.
const PARALLEL_SEGMENTS_MIN: usize = 4;

/// A record with a key.
pub(crate) struct FoundRecord {
    pub key: Key,
    pub place: Place,
    pub damaged: bool,
    /// Of a state record that is not damaged.
    pub state: Option<Vec<u8>>,
}

/// A segment file and what is in it.
pub(crate) struct FoundSegment {
    pub id: u32,
    pub file: Arc<dyn LogFile>,
    pub size_bytes: u64,
    /// None if it is damaged.
    pub header: Option<SegmentHeader>,
    pub scan: SegmentScan,
    pub records: Vec<FoundRecord>,
}

/// Segment files to be read.
pub(crate) struct SegmentFiles<'a> {
    pub files: &'a dyn LogFiles,
    pub options: &'a Options,
    /// Ascending.
    pub ids: &'a [u32],
}

impl SegmentFiles<'_> {
    /// Reads all of them and hands them over in their order. `durable_end` says up to where one was durable. Stops at the
    /// first error: Identity, Format (an unknown one), Io, or what `take` returns.
    pub fn read(
        &self,
        durable_end: impl Fn(u32) -> u64 + Sync,
        mut take: impl FnMut(FoundSegment) -> Result<()>,
    ) -> Result<()> {
        let read = |id, bytes: &mut SegmentBytes| self.read_one(id, durable_end(id), bytes);
        if self.ids.len() < PARALLEL_SEGMENTS_MIN {
            let mut bytes = SegmentBytes::default();
            return self.ids.iter().try_for_each(|id| take(read(*id, &mut bytes)?));
        }
        thread::scope(|scope| {
            let receivers: Vec<Receiver<Result<FoundSegment>>> = (0..READERS)
                .map(|reader| {
                    let (sender, receiver) = sync_channel(0);
                    let ids = self.ids.iter().skip(reader).step_by(READERS);
                    scope.spawn(move || read_each(ids, read, sender));
                    receiver
                })
                .collect();
            for receiver in (0..self.ids.len()).map(|number| &receivers[number % READERS]) {
                let Ok(found) = receiver.recv() else { panic!("a reader tells of all its segments, or of an error") };
                take(found?)?;
            }
            Ok(())
        })
    }

    fn read_one(&self, id: u32, durable_end: u64, bytes: &mut SegmentBytes) -> Result<FoundSegment> {
        let Options { folder, identity, .. } = self.options;
        let failed = |error: io::Error| LogError::io(&format!("cannot open the log in {}", folder.display()), &error);
        let file = self.files.open(&folder.join(segment_name(id))).map_err(failed)?;
        bytes.turn_to(Arc::clone(&file)).map_err(failed)?;
        let block = bytes.through(SEGMENT_HEADER_BYTES as usize).map_err(failed)?;
        let header = check_segment_header(block, identity, id)?;
        let mut records = Vec::new();
        let scan = scan_segment(bytes, id, segment_seed(identity, id), durable_end, |record, bytes| {
            records.push(found(id, record, bytes));
        })?;
        Ok(FoundSegment { id, file, size_bytes: bytes.len() as u64, header, scan, records })
    }
}

fn read_each<'a>(
    ids: impl Iterator<Item = &'a u32>,
    read: impl Fn(u32, &mut SegmentBytes) -> Result<FoundSegment>,
    sender: SyncSender<Result<FoundSegment>>,
) {
    let mut bytes = SegmentBytes::default();
    for id in ids {
        let found = read(*id, &mut bytes);
        let failed = found.is_err();
        // Nobody listens any more where another segment failed.
        if sender.send(found).is_err() || failed {
            return;
        }
    }
}

fn found(segment: u32, record: &ScannedRecord, bytes: &[u8]) -> FoundRecord {
    let ScannedRecord { header, offset, damaged } = *record;
    let RecordHeader { kind, group, instance, body_bytes, .. } = header;
    let start = (offset + RECORD_HEADER_BYTES) as usize;
    let is_state = kind == KIND_STATE && !damaged;
    let state = is_state.then(|| bytes[start..start + body_bytes as usize].to_vec());
    FoundRecord { key: Key { kind, group, instance }, place: Place { segment, offset, body_bytes }, damaged, state }
}
