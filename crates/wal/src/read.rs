//! Reads entries back from the segment files and verifies them.

use crate::error::{ErrorCode, LogError, Result, is_lack_of_descriptors};
use crate::format::{Identity, KIND_ENTRY, RECORD_HEADER_BYTES, read_record_header, record_bytes, segment_seed};
use crate::index::Located;
use crate::segment_file::SegmentFile;
use crc32c::crc32c;
use std::ops::Range;
use std::sync::Arc;

/// Entries that lie within this distance may be fetched by one read, of at most the second size unless one is larger.
const READ_GAP_BYTES_MAX: u64 = 64 * 1024;
const READ_BYTES_MAX: u64 = 1024 * 1024;
/// A read fetches at most so many times the bytes of its entries: what lies between them is of other groups, of which
/// there may be many.
const READ_RATIO_MAX: u64 = 4;

/// Instance, start and length of the body of an entry in the bytes that were read.
pub type BodyPlace = (u64, usize, usize);

/// Bodies within one buffer.
pub struct Entries {
    /// Holds the bodies, and what lay between them.
    pub bytes: Vec<u8>,
    /// Where each body is.
    pub places: Vec<BodyPlace>,
}

/// What a read needs; it holds its files, so that a truncation meanwhile does not take them away.
pub struct ReadPlan {
    identity: Identity,
    group: u32,
    located: Vec<Located>,
    runs: Vec<Run>,
    bytes: usize,
}

/// Entries that are fetched by one read.
struct Run {
    file: Arc<SegmentFile>,
    /// Of them, in `located`.
    entries: Range<usize>,
    /// Offset in the segment.
    start: u64,
    bytes: usize,
}

impl ReadPlan {
    pub(crate) fn new(
        identity: Identity,
        group: u32,
        located: Vec<Located>,
        file_of: impl Fn(u32) -> Arc<SegmentFile>,
    ) -> Self {
        let mut plan = ReadPlan { identity, group, located, runs: Vec::new(), bytes: 0 };
        let mut at = 0;
        while let Some(first) = plan.located.get(at) {
            let count = run_length(&plan.located[at..]);
            let start = u64::from(first.place.offset);
            let bytes = (end_of(&plan.located[at + count - 1]) - start) as usize;
            plan.runs.push(Run { file: file_of(first.place.segment), entries: at..at + count, start, bytes });
            plan.bytes += bytes;
            at += count;
        }
        plan
    }

    /// How many bytes it reads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries it reads.
    pub fn entries(&self) -> usize {
        self.located.len()
    }

    /// Reads and verifies the entries; an error (Corrupt) at the first damaged one, or Io if no descriptor is left.
    pub fn read(&self) -> Result<Entries> {
        let mut bytes = vec![0; self.bytes];
        let mut at = 0;
        for run in &self.runs {
            let target = &mut bytes[at..at + run.bytes];
            // What lies behind the end of the file stays zero and fails the check.
            run.file.open().and_then(|file| file.read(target, run.start)).map_err(|error| {
                let segment = self.located[run.entries.start].place.segment;
                let what = format!("cannot read segment {segment} of the log (group {})", self.group);
                let code = if is_lack_of_descriptors(&error) { ErrorCode::Io } else { ErrorCode::Corrupt };
                LogError::new(code, format!("{what}: {error}"))
            })?;
            at += run.bytes;
        }
        let places = self.check_all(&bytes)?;
        Ok(Entries { bytes, places })
    }

    /// The same into `target`, which has `bytes()` bytes, without waiting for the disk: None where not all is in
    /// memory.
    pub fn read_cached(&self, target: &mut [u8]) -> Option<Result<Vec<BodyPlace>>> {
        let mut at = 0;
        for run in &self.runs {
            run.file.if_open()?.read_cached(target.get_mut(at..at + run.bytes)?, run.start)?;
            at += run.bytes;
        }
        Some(self.check_all(target))
    }

    fn check_all(&self, bytes: &[u8]) -> Result<Vec<BodyPlace>> {
        let mut places = Vec::with_capacity(self.located.len());
        let mut base = 0;
        for run in &self.runs {
            let seed = segment_seed(&self.identity, self.located[run.entries.start].place.segment);
            for located in &self.located[run.entries.clone()] {
                let record_start = base + (u64::from(located.place.offset) - run.start) as usize;
                self.check(&bytes[record_start..], seed, located)?;
                let body_start = record_start + RECORD_HEADER_BYTES as usize;
                places.push((located.instance, body_start, located.place.body_bytes as usize));
            }
            base += run.bytes;
        }
        Ok(places)
    }

    fn check(&self, record: &[u8], seed: u32, located: &Located) -> Result<()> {
        let Located { instance, place } = *located;
        let body_start = RECORD_HEADER_BYTES as usize;
        let body = &record[body_start..body_start + place.body_bytes as usize];
        let sound = read_record_header(record, place.offset, seed)?.is_some_and(|header| {
            let key = (header.kind, header.group, header.instance, header.body_bytes);
            key == (KIND_ENTRY, self.group, instance, place.body_bytes) && crc32c(body) == header.body_crc
        });
        if sound {
            return Ok(());
        }
        let at = format!("segment {}, offset {}", place.segment, place.offset);
        let message = format!("entry {instance} of group {} is damaged ({at})", self.group);
        Err(LogError::new(ErrorCode::Corrupt, message))
    }
}

fn end_of(located: &Located) -> u64 {
    u64::from(located.place.offset) + record_bytes(located.place.body_bytes)
}

/// How many of the entries one read fetches.
fn run_length(located: &[Located]) -> usize {
    let (first, mut count) = (&located[0], 1);
    let mut wanted = record_bytes(first.place.body_bytes);
    while let Some(next) = located.get(count) {
        let (start, end) = (u64::from(first.place.offset), end_of(&located[count - 1]));
        let offset = u64::from(next.place.offset);
        if next.place.segment != first.place.segment || offset < end || offset - end > READ_GAP_BYTES_MAX {
            break;
        }
        wanted += record_bytes(next.place.body_bytes);
        let bytes = end_of(next) - start;
        if bytes > READ_BYTES_MAX || bytes > READ_RATIO_MAX * wanted {
            break;
        }
        count += 1;
    }
    count
}
