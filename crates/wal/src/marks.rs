//! The high-water marks: which segments there must be, and up to where the log is durable. They tell a torn tail from
//! damage within the last batch, and notice a segment file that is gone. Two copies, written in turn
//! (docs/on-disk-format.md).

use crate::error::{LogError, Result};
use crate::files::{Folder, LogFile, LogFiles};
use crate::format::{IDENTITY_BYTES, Identity, check_identity, u32_at};
use crc32c::crc32c;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Name of the file.
pub const MARKS_NAME: &str = "marks";
/// Name of the file until its first copy is durable.
pub const UNFINISHED_MARKS_NAME: &str = "marks.new";

/// Most segments that the marks can list; the log grows no further.
pub const SEGMENTS_MAX: usize = 16_000;

const SLOTS: u64 = 2;
const SLOT_BYTES: usize = 65_536;
/// Size of the file.
pub const MARKS_BYTES: usize = SLOTS as usize * SLOT_BYTES;
const HEAD_BYTES: usize = 56;
const MARKS_VERSION: u32 = 2;
const MAGIC: &[u8; 8] = b"PHXQMRK\n";
const FLAG_CLEAN: u32 = 1;
const FLAG_LOST: u32 = 2;

/// Behind the first copy, in one sector: a crash tears it nowhere.
const OPENED_AT: usize = SLOT_BYTES - 512;
const OPENED_BYTES: usize = 20;
const OPENED_MAGIC: &[u8; 8] = b"PHXQOPN\n";

/// A position of the log: all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Segment.
    pub segment: u32,
    /// Offset in it.
    pub offset: u32,
}

/// What a copy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarksRecord {
    /// All records before it are durable.
    pub durable: LogPosition,
    /// Ids of the segments, ascending.
    pub segments: Vec<u32>,
    /// Written by a clean close.
    pub clean: bool,
    /// Marks were missing or unreadable once: nobody knows what else is.
    pub lost: bool,
}

/// What reading the file found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundMarks {
    /// The newest sound copy.
    pub record: Option<MarksRecord>,
    /// Unreadable copies that a crash does not explain.
    pub damaged: u32,
    /// Sequence of that copy, 0 if there is none.
    pub sequence: u64,
}

/// The file of an open log.
pub(crate) struct Marks {
    file: Arc<dyn LogFile>,
    identity: Identity,
    sequence: u64,
    /// Both copies are of a clean close.
    was_clean: bool,
}

impl Marks {
    /// Makes the file, with one copy of `record`.
    pub fn create(
        files: &dyn LogFiles,
        folder: &Folder,
        identity: Identity,
        record: &MarksRecord,
    ) -> io::Result<Marks> {
        let unfinished = folder.path().join(UNFINISHED_MARKS_NAME);
        let file = files.create(&unfinished)?;
        file.write(&[0; MARKS_BYTES], 0)?;
        let mut marks = Marks { file, identity, sequence: 0, was_clean: false };
        marks.write(record)?;
        files.rename(&unfinished, &folder.path().join(MARKS_NAME))?;
        files.sync_folder(folder)?;
        Ok(marks)
    }

    /// Opens the file that is there. The copy that holds is durable when this returns: it is written again where it is,
    /// because it may have been read from memory whose sync never came or failed. Errors: Identity if it belongs to
    /// another identity, Io.
    pub fn open(files: &dyn LogFiles, folder: &Path, identity: Identity) -> Result<(Marks, FoundMarks)> {
        let failed = |error: io::Error| LogError::io("cannot read the marks of the log", &error);
        let file = files.open(&folder.join(MARKS_NAME)).map_err(failed)?;
        let mut bytes = vec![0; MARKS_BYTES];
        // What is missing at the end stays zero: an unreadable copy.
        file.read(&mut bytes, 0).map_err(failed)?;
        let found = read_marks(&bytes, &identity)?;
        if let Some(record) = &found.record {
            let copy = encode_slot(&identity, record, found.sequence);
            file.write(&copy, slot_start(found.sequence)).and_then(|()| file.sync()).map_err(failed)?;
        }
        let was_clean = found.record.as_ref().is_some_and(|record| record.clean);
        Ok((Marks { file, identity, sequence: found.sequence, was_clean }, found))
    }

    /// Writes a copy, durable when this returns.
    pub fn write(&mut self, record: &MarksRecord) -> io::Result<()> {
        if std::mem::take(&mut self.was_clean) {
            // One of them is about to be written over: that it is unreadable after a crash is no damage.
            self.file.write(&encode_opened(self.sequence), OPENED_AT as u64)?;
            self.file.sync()?;
        }
        self.sequence += 1;
        let bytes = encode_slot(&self.identity, record, self.sequence);
        self.file.write(&bytes, slot_start(self.sequence))?;
        self.file.sync()
    }

    /// Writes both copies: what one of them loses from now on is damage.
    pub fn write_clean(&mut self, record: MarksRecord) -> io::Result<()> {
        let record = MarksRecord { clean: true, ..record };
        for _ in 0..SLOTS {
            self.write(&record)?;
        }
        Ok(())
    }
}

/// Where the copy with this number is.
fn slot_start(sequence: u64) -> u64 {
    (sequence % SLOTS) * SLOT_BYTES as u64
}

struct Slot {
    sequence: u64,
    record: MarksRecord,
}

/// Reads the bytes of the file. An error (Identity) if a copy belongs to another identity.
pub fn read_marks(bytes: &[u8], identity: &Identity) -> Result<FoundMarks> {
    let mut newest: Option<Slot> = None;
    let mut sound = 0;
    for slot in bytes.chunks_exact(SLOT_BYTES) {
        let Some(slot) = read_slot(slot, identity)? else { continue };
        sound += 1;
        if newest.as_ref().is_none_or(|newest| slot.sequence > newest.sequence) {
            newest = Some(slot);
        }
    }
    let opened = read_opened(bytes);
    let crash_explains = newest.as_ref().is_some_and(|newest| !newest.record.clean || opened == Some(newest.sequence));
    let damaged = if crash_explains { 0 } else { SLOTS as u32 - sound };
    let sequence = newest.as_ref().map_or(0, |newest| newest.sequence);
    Ok(FoundMarks { record: newest.map(|newest| newest.record), damaged, sequence })
}

/// Says that the log was opened whose clean copy has this number.
fn encode_opened(sequence: u64) -> Vec<u8> {
    let mut bytes = OPENED_MAGIC.to_vec();
    bytes.extend_from_slice(&sequence.to_le_bytes());
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_opened(bytes: &[u8]) -> Option<u64> {
    let opened = bytes.get(OPENED_AT..OPENED_AT + OPENED_BYTES)?;
    let sound = opened[..8] == *OPENED_MAGIC && crc32c(&opened[..16]) == u32_at(opened, 16);
    sound.then(|| u64::from(u32_at(opened, 8)) | (u64::from(u32_at(opened, 12)) << 32))
}

fn encode_slot(identity: &Identity, record: &MarksRecord, sequence: u64) -> Vec<u8> {
    assert!(record.segments.len() <= SEGMENTS_MAX, "the marks list all segments");
    let flags = u32::from(record.clean) * FLAG_CLEAN + u32::from(record.lost) * FLAG_LOST;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 4 * record.segments.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&MARKS_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(record.segments.len() as u32).to_le_bytes());
    bytes.extend_from_slice(identity);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&record.durable.segment.to_le_bytes());
    bytes.extend_from_slice(&record.durable.offset.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    for segment in &record.segments {
        bytes.extend_from_slice(&segment.to_le_bytes());
    }
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_slot(bytes: &[u8], identity: &Identity) -> Result<Option<Slot>> {
    if bytes[..8] != *MAGIC || u32_at(bytes, 8) != MARKS_VERSION {
        return Ok(None);
    }
    let count = u32_at(bytes, 12) as usize;
    if count > SEGMENTS_MAX {
        return Ok(None);
    }
    let crc_at = HEAD_BYTES + 4 * count;
    if crc32c(&bytes[..crc_at]) != u32_at(bytes, crc_at) {
        return Ok(None);
    }
    let mut found = Identity::default();
    found.copy_from_slice(&bytes[16..16 + IDENTITY_BYTES]);
    check_identity(&found, identity)?;
    let flags = u32_at(bytes, 48);
    let record = MarksRecord {
        durable: LogPosition { segment: u32_at(bytes, 40), offset: u32_at(bytes, 44) },
        segments: (0..count).map(|index| u32_at(bytes, HEAD_BYTES + 4 * index)).collect(),
        clean: flags & FLAG_CLEAN != 0,
        lost: flags & FLAG_LOST != 0,
    };
    let sequence = u64::from(u32_at(bytes, 32)) | (u64::from(u32_at(bytes, 36)) << 32);
    Ok(Some(Slot { sequence, record }))
}
