//! Reads entries back from the segment files and verifies them.

use crate::error::{ErrorCode, LogError, Result};
use crate::files::LogFile;
use crate::format::{Identity, KIND_ENTRY, RECORD_HEADER_BYTES, read_record_header, record_bytes, segment_seed};
use crate::index::Located;
use crc32c::crc32c;
use std::sync::Arc;

/// Entries that lie within this distance are fetched by one read, of at most the second size unless one is larger.
const READ_GAP_BYTES_MAX: u64 = 16 * 1024;
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// Bodies within one buffer.
pub struct Entries {
    /// Holds the bodies, and what lay between them.
    pub bytes: Vec<u8>,
    /// Instance, start and length of each body.
    pub places: Vec<(u64, usize, usize)>,
}

/// What a read needs; it holds its files, so that a truncation meanwhile does not take them away.
pub struct ReadPlan {
    pub(crate) identity: Identity,
    pub(crate) group: u32,
    pub(crate) located: Vec<(Located, Arc<dyn LogFile>)>,
}

impl ReadPlan {
    /// Reads and verifies the entries; an error (Corrupt) at the first damaged one.
    pub fn read(&self) -> Result<Entries> {
        let mut entries = Entries { bytes: Vec::new(), places: Vec::with_capacity(self.located.len()) };
        let mut at = 0;
        while at < self.located.len() {
            let count = run_length(&self.located[at..]);
            self.read_run(&self.located[at..at + count], &mut entries)?;
            at += count;
        }
        Ok(entries)
    }

    fn read_run(&self, run: &[(Located, Arc<dyn LogFile>)], entries: &mut Entries) -> Result<()> {
        let [(first, file), ..] = run else { return Ok(()) };
        let (last, _) = &run[run.len() - 1];
        let start = u64::from(first.place.offset);
        let base = entries.bytes.len();
        entries.bytes.resize(base + (end_of(last) - start) as usize, 0);
        // What lies behind the end of the file stays zero and fails the check.
        file.read(&mut entries.bytes[base..], start).map_err(|error| {
            let Located { place, .. } = first;
            let what = format!("cannot read segment {} of the log (group {})", place.segment, self.group);
            LogError::new(ErrorCode::Corrupt, format!("{what}: {error}"))
        })?;
        let seed = segment_seed(&self.identity, first.place.segment);
        for (located, _) in run {
            let record_start = base + (u64::from(located.place.offset) - start) as usize;
            let body_start = record_start + RECORD_HEADER_BYTES as usize;
            self.check(&entries.bytes[record_start..], seed, located)?;
            entries.places.push((located.instance, body_start, located.place.body_bytes as usize));
        }
        Ok(())
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
fn run_length(located: &[(Located, Arc<dyn LogFile>)]) -> usize {
    let mut count = 1;
    while let Some((next, _)) = located.get(count) {
        let ((first, _), (last, _)) = (&located[0], &located[count - 1]);
        let (start, end) = (u64::from(first.place.offset), end_of(last));
        let offset = u64::from(next.place.offset);
        let near = next.place.segment == first.place.segment
            && offset >= end
            && offset - end <= READ_GAP_BYTES_MAX
            && end_of(next) - start <= READ_BYTES_MAX;
        if !near {
            break;
        }
        count += 1;
    }
    count
}
