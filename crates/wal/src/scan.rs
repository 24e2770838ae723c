//! Reads one segment file: which records are in it, where it ends, and whether what is bad is a torn tail or corruption.
//!
//! A batch is written only after the batch before it is durable. So a bad place is corruption, never a torn tail, if any
//! record behind it belongs to a batch that began behind it (`batch` of its header), or if the segment is not the newest.
//! Else it lies in the last batch, which may not have been durable yet, and is cut with all that follows.

use crate::engine::CorruptRecord;
use crate::error::Result;
use crate::format::{
    FLAG_CONTINUES, KIND_MARK, KIND_SEAL, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, read_record_header,
    record_bytes,
};
use crc32c::crc32c;

/// A record found: its place, and whether its body is damaged (then its header is sound and its key known).
pub(crate) struct ScannedRecord {
    pub header: RecordHeader,
    pub offset: u32,
    pub damaged: bool,
}

pub(crate) struct SegmentScan {
    /// Position behind the last record: where the next one goes.
    pub end: u64,
    /// Checksum of the last header: the link of the next record.
    pub link: u32,
    /// The segment is full and closed by a seal.
    pub sealed: bool,
    /// Records lie before `end`, the last of which is no mark of a clean close.
    pub unmarked: bool,
    /// Bytes behind `end` that are not zero and were never durable.
    pub torn_bytes: u64,
    pub corrupt: Vec<CorruptRecord>,
}

/// Scans the bytes of a segment file and calls `deliver` for each record with a key, in order. `newest` says whether
/// this is the newest segment: only there can a tail be torn.
pub(crate) fn scan_segment(
    bytes: &[u8],
    segment: u32,
    seed: u32,
    newest: bool,
    mut deliver: impl FnMut(ScannedRecord),
) -> Result<SegmentScan> {
    let mut corrupt = Vec::new();
    // Records of an append whose last record has not been seen yet.
    let mut held: Vec<ScannedRecord> = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES as usize;
    let (mut append_start, mut append_link) = (at, seed);
    let (mut link, mut chained, mut sealed, mut unmarked) = (seed, true, false, false);
    let mut durable_before = 0;

    while !sealed && at < bytes.len() {
        let header = read_record_header(&bytes[at..], at as u32, seed)?;
        let damaged = match &header {
            Some(header) => (chained && header.link != link) || !body_is_sound(bytes, at, header),
            None => true,
        };
        if damaged {
            if newest && at >= durable_before {
                durable_before = batch_behind(bytes, at, seed)?;
            }
            if newest && at >= durable_before {
                break;
            }
            // A mark or seal has no key; that it does not link up says that something before it is missing.
            let keyed = header.filter(RecordHeader::has_key);
            let (group, instance) = (keyed.map(|key| key.group), keyed.map(|key| key.instance));
            corrupt.push(CorruptRecord { segment, offset: at as u32, group, instance });
        }
        chained = header.is_some();
        let Some(header) = header else {
            at = next_header(bytes, at + 8, seed)?.map_or(bytes.len(), |(next, _)| next);
            held.drain(..).for_each(&mut deliver);
            (append_start, append_link) = (at, link);
            continue;
        };
        if header.kind == KIND_SEAL {
            sealed = true;
        } else if header.kind != KIND_MARK {
            held.push(ScannedRecord { header, offset: at as u32, damaged });
        }
        at += record_bytes(header.body_bytes) as usize;
        link = header.header_crc;
        if header.flags & FLAG_CONTINUES != 0 {
            continue;
        }
        held.drain(..).for_each(&mut deliver);
        (append_start, append_link) = (at, link);
        unmarked = header.kind != KIND_MARK;
    }
    if newest {
        let torn_bytes = if sealed { 0 } else { length_without_zeros(bytes).saturating_sub(append_start) };
        let (end, torn_bytes) = (append_start as u64, torn_bytes as u64);
        return Ok(SegmentScan { end, link: append_link, sealed, unmarked, torn_bytes, corrupt });
    }
    // Only a sealed segment has a successor: an end without a seal means that records are missing.
    if !sealed && chained {
        corrupt.push(CorruptRecord { segment, offset: at as u32, group: None, instance: None });
    }
    held.drain(..).for_each(&mut deliver);
    Ok(SegmentScan { end: at as u64, link, sealed, unmarked, torn_bytes: 0, corrupt })
}

fn body_is_sound(bytes: &[u8], at: usize, header: &RecordHeader) -> bool {
    let start = at + RECORD_HEADER_BYTES as usize;
    let body = bytes.get(start..start + header.body_bytes as usize);
    body.is_some_and(|body| crc32c(body) == header.body_crc)
}

/// Position and fields of the next sound header at `from` or behind.
fn next_header(bytes: &[u8], from: usize, seed: u32) -> Result<Option<(usize, RecordHeader)>> {
    let mut at = from;
    while at + RECORD_HEADER_BYTES as usize <= bytes.len() {
        if let Some(header) = read_record_header(&bytes[at..], at as u32, seed)? {
            return Ok(Some((at, header)));
        }
        at += 8;
    }
    Ok(None)
}

/// Highest batch start that a sound header behind `position` names, or `position` itself: all before was durable.
fn batch_behind(bytes: &[u8], position: usize, seed: u32) -> Result<usize> {
    let mut batch = position;
    let mut at = position;
    while let Some((next, header)) = next_header(bytes, at + 8, seed)? {
        batch = batch.max(header.batch as usize);
        at = next;
    }
    Ok(batch)
}

fn length_without_zeros(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
