//! Goes through the records of a sealed segment from its file, in windows.

use crate::contents::Key;
use crate::error::{LogError, Result};
use crate::files::LogFile;
use crate::format::{
    Identity, KIND_SEAL, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, read_record_header, record_bytes,
    segment_seed,
};
use crc32c::crc32c;
use std::sync::Arc;

const WINDOW_BYTES: u64 = 1024 * 1024;

/// A record with its body, None if the bytes are not those that were written.
pub(crate) struct ReadRecord {
    pub key: Key,
    pub offset: u32,
    pub body: Option<Vec<u8>>,
}

pub(crate) struct SegmentReader {
    file: Arc<dyn LogFile>,
    segment: u32,
    seed: u32,
    size_bytes: u64,
    window: Vec<u8>,
    window_start: u64,
    offset: u64,
}

impl SegmentReader {
    pub fn new(file: Arc<dyn LogFile>, segment: u32, identity: &Identity, size_bytes: u64) -> Self {
        let (seed, offset) = (segment_seed(identity, segment), u64::from(SEGMENT_HEADER_BYTES));
        SegmentReader { file, segment, seed, size_bytes, window: Vec::new(), window_start: 0, offset }
    }

    /// The segment that is read.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// The next record that `wanted` says yes to, or None at the seal or the end. Places without a sound header are
    /// skipped.
    pub fn next(&mut self, mut wanted: impl FnMut(Key, u32) -> bool) -> Result<Option<ReadRecord>> {
        while self.offset + u64::from(RECORD_HEADER_BYTES) <= self.size_bytes {
            let at = self.reach(u64::from(RECORD_HEADER_BYTES))?;
            let offset = self.offset as u32;
            let Some(header) = read_record_header(&self.window[at..], offset, self.seed)? else {
                self.offset += 8;
                continue;
            };
            if header.kind == KIND_SEAL {
                return Ok(None);
            }
            let key = Key { kind: header.kind, group: header.group, instance: header.instance };
            if header.has_key() && wanted(key, offset) {
                let at = self.reach(record_bytes(header.body_bytes))?;
                let body = self.body_at(at, &header);
                self.offset += record_bytes(header.body_bytes);
                return Ok(Some(ReadRecord { key, offset, body }));
            }
            self.offset += record_bytes(header.body_bytes);
        }
        Ok(None)
    }

    fn body_at(&self, at: usize, header: &RecordHeader) -> Option<Vec<u8>> {
        let start = at + RECORD_HEADER_BYTES as usize;
        let body = self.window.get(start..start + header.body_bytes as usize)?;
        (crc32c(body) == header.body_crc).then(|| body.to_vec())
    }

    /// Makes the window hold `bytes` from the offset on, as far as the file goes; returns where they start in it.
    fn reach(&mut self, bytes: u64) -> Result<usize> {
        let end = (self.offset + bytes).min(self.size_bytes);
        if self.offset < self.window_start || end > self.window_start + self.window.len() as u64 {
            let length = bytes.max(WINDOW_BYTES).min(self.size_bytes - self.offset);
            self.window.resize(length as usize, 0);
            let filled = self
                .file
                .read(&mut self.window, self.offset)
                .map_err(|error| LogError::io(&format!("cannot read segment {} of the log", self.segment), &error))?;
            self.window.truncate(filled);
            if (filled as u64) < length {
                self.size_bytes = self.offset + filled as u64;
            }
            self.window_start = self.offset;
        }
        // A file that is shorter than it was has nothing here.
        Ok(((self.offset - self.window_start) as usize).min(self.window.len()))
    }
}
