//! Reads one segment file: which records are in it, where it ends, and whether what is bad is a torn tail or
//! corruption.
//!
//! A batch is written only after the batch before it is durable. So a bad place is corruption, never a torn tail, if
//! any record behind it belongs to a batch that began behind it (`batch` of its header), if the high-water marks say
//! that it was durable, or if the segment is not the newest. Else it lies in the last batch, which may not have been
//! durable yet, and is discarded with all that follows.

use crate::engine::CorruptRecord;
use crate::error::{LogError, Result};
use crate::format::{
    FLAG_CONTINUES, KIND_SEAL, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, read_record_header,
    record_bytes,
};
use crate::segment_bytes::SegmentBytes;
use crc32c::crc32c;
use std::io;

/// A record found: its place, and whether its body is damaged (then its header is sound and its key known).
#[derive(Clone, Copy)]
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
    /// Closed by a seal, or damaged up to its end: no record may be appended.
    pub ended: bool,
    /// Bytes behind `end` up to the last record header of this segment: never durable.
    pub torn_bytes: u64,
    pub corrupt: Vec<CorruptRecord>,
}

/// Scans the bytes of a segment file and calls `deliver` for each record with a key, in order, with the bytes up to its
/// end at least. Everything before `durable_end` was durable: u64::MAX for all but the newest segment, for that one
/// what the high-water marks say.
pub(crate) fn scan_segment(
    source: &mut SegmentBytes,
    segment: u32,
    seed: u32,
    durable_end: u64,
    mut deliver: impl FnMut(&ScannedRecord, &[u8]),
) -> Result<SegmentScan> {
    let mut corrupt = Vec::new();
    // Records of an append whose last record has not been seen yet.
    let mut held: Vec<ScannedRecord> = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES as usize;
    let (mut append_start, mut append_link) = (at, seed);
    let (mut link, mut chained, mut sealed) = (seed, true, false);
    // All before it was durable, as records behind say.
    let mut durable_before = 0;

    while !sealed && at < source.len() {
        let bytes = through(source, at + RECORD_HEADER_BYTES as usize)?;
        let header = read_record_header(bytes.get(at..).unwrap_or(&[]), at as u32, seed)?;
        let mut bytes = bytes;
        let unlinked = header.as_ref().is_some_and(|header| chained && header.link != link);
        let damaged = match &header {
            Some(header) => {
                bytes = through(source, at + record_bytes(header.body_bytes) as usize)?;
                unlinked || !body_is_sound(bytes, at, header)
            }
            None => true,
        };
        if damaged {
            if at as u64 >= durable_end && at >= durable_before {
                bytes = source.all().map_err(read_error)?;
                durable_before = headers_behind(bytes, at, seed)?.batch;
                if at >= durable_before {
                    break;
                }
            }
            // What does not link up may be sound itself: what is lost lies before it, and nobody knows its key. A mark or seal
            // has none.
            let keyed = header.filter(|header| header.has_key() && !unlinked);
            let (group, instance) = (keyed.map(|key| key.group), keyed.map(|key| key.instance));
            corrupt.push(CorruptRecord { segment, offset: at as u32, group, instance });
        }
        chained = header.is_some();
        let Some(header) = header else {
            let bytes = source.all().map_err(read_error)?;
            at = next_header(bytes, at + 8, seed)?.map_or(bytes.len(), |(next, _)| next);
            held.drain(..).for_each(|record| deliver(&record, bytes));
            (append_start, append_link) = (at, link);
            continue;
        };
        sealed = header.kind == KIND_SEAL;
        let record = ScannedRecord { header, offset: at as u32, damaged };
        at += record_bytes(header.body_bytes) as usize;
        link = header.header_crc;
        if header.flags & FLAG_CONTINUES != 0 {
            held.extend(Some(record).filter(|_| header.has_key()));
            continue;
        }
        held.drain(..).for_each(|record| deliver(&record, bytes));
        if header.has_key() {
            deliver(&record, bytes);
        }
        (append_start, append_link) = (at, link);
    }
    let bytes = if sealed { through(source, at)? } else { source.all().map_err(read_error)? };
    // A file that was cut by a former version, or just so, goes on behind its end.
    let just_so = at == bytes.len() && chained && at as u64 >= durable_end;
    let goes_on = !sealed && (at < bytes.len() || just_so);
    if goes_on {
        let torn_bytes = (torn_end(bytes, append_start, at, seed)? - append_start) as u64;
        return Ok(SegmentScan { end: append_start as u64, link: append_link, ended: false, torn_bytes, corrupt });
    }
    // Only a sealed segment has a successor, or is full: an end without a seal means that records are missing.
    if !sealed && chained {
        corrupt.push(CorruptRecord { segment, offset: at as u32, group: None, instance: None });
    }
    held.drain(..).for_each(|record| deliver(&record, bytes));
    Ok(SegmentScan { end: at as u64, link, ended: true, torn_bytes: 0, corrupt })
}

fn through(source: &mut SegmentBytes, end: usize) -> Result<&[u8]> {
    source.through(end).map_err(read_error)
}

fn read_error(error: io::Error) -> LogError {
    LogError::io("cannot read a segment of the log", &error)
}

fn body_is_sound(bytes: &[u8], at: usize, header: &RecordHeader) -> bool {
    let body_start = at + RECORD_HEADER_BYTES as usize;
    let Some(padded) = bytes.get(body_start..at + record_bytes(header.body_bytes) as usize) else { return false };
    let (body, padding) = padded.split_at(header.body_bytes as usize);
    crc32c(body) == header.body_crc && padding.iter().all(|byte| *byte == 0)
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

struct HeadersBehind {
    /// Highest batch start that one of them names, or the position: all before was durable.
    batch: usize,
    /// End of the last of them, or the position.
    end: usize,
}

/// The sound headers behind `position`.
fn headers_behind(bytes: &[u8], position: usize, seed: u32) -> Result<HeadersBehind> {
    let mut behind = HeadersBehind { batch: position, end: position };
    let mut at = position;
    while let Some((next, header)) = next_header(bytes, at + 8, seed)? {
        behind.batch = behind.batch.max(header.batch as usize);
        behind.end = next + RECORD_HEADER_BYTES as usize;
        at = next;
    }
    Ok(behind)
}

/// End of the last sound header that was never durable; the records from `start` to `bad` are such, too.
fn torn_end(bytes: &[u8], start: usize, bad: usize, seed: u32) -> Result<usize> {
    let HeadersBehind { end, .. } = headers_behind(bytes, bad, seed)?;
    if end > bad {
        return Ok(end);
    }
    let bad_header_is_sound = read_record_header(&bytes[bad..], bad as u32, seed)?.is_some();
    Ok(if bad_header_is_sound { bad + RECORD_HEADER_BYTES as usize } else { start.max(bad) })
}
