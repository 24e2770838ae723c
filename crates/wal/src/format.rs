//! The bytes of the log, as tabled in docs/on-disk-format.md. All numbers are little-endian.

use crate::error::{ErrorCode, LogError, Result};
use crc32c::{crc32c, crc32c_append};

/// Version of the format that is written.
pub const FORMAT_VERSION: u32 = 2;
/// Oldest version that is still read.
const FORMAT_VERSION_MIN: u32 = 1;
/// Bytes of an identity.
pub const IDENTITY_BYTES: usize = 16;
/// Names cluster and replica.
pub type Identity = [u8; IDENTITY_BYTES];

/// The header has a block of its own, so that no torn write of a record can damage it. Records start behind it.
pub const SEGMENT_HEADER_BYTES: u32 = 4096;
const SEGMENT_HEADER_USED_BYTES: usize = 56;
const SEGMENT_MAGIC: &[u8; 8] = b"PHXQWAL\n";

/// Least size of a segment in bytes.
pub const SEGMENT_BYTES_MIN: u32 = 8 * 1024;
/// Greatest size of a segment in bytes.
pub const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: u32 = 40;
const RECORD_MARKER: u16 = 0x5051;
/// Bytes of the header that its checksum covers.
const RECORD_CHECKED_BYTES: usize = 36;

/// An entry: large, stays on disk.
pub const KIND_ENTRY: u8 = 1;
/// A state record: small, its latest version is kept in memory.
pub const KIND_STATE: u8 = 2;
/// Last record of a segment that is full: whatever follows in the file is meaningless.
pub const KIND_SEAL: u8 = 3;
/// Version 1 only: written at a clean close.
pub const KIND_MARK: u8 = 4;

/// The next record belongs to the same append: all of them or none.
pub const FLAG_CONTINUES: u8 = 1;

/// The fields of a record's header.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordHeader {
    /// One of the KIND constants.
    pub kind: u8,
    /// 0 or FLAG_CONTINUES.
    pub flags: u8,
    /// Group of the key.
    pub group: u32,
    /// Instance (entry) or slot (state) of the key.
    pub instance: u64,
    /// Length of the body in bytes, without its padding.
    pub body_bytes: u32,
    /// Offset in the segment at which the group commit of this record began: all before it was durable by then.
    pub batch: u32,
    /// Checksum of the header before; of the first record of a segment: the segment's seed.
    pub link: u32,
    /// Checksum of the body.
    pub body_crc: u32,
    /// Checksum of the header.
    pub header_crc: u32,
}

impl RecordHeader {
    /// Whether the caller of the engine wrote it, so that it has a key.
    pub fn has_key(&self) -> bool {
        self.kind == KIND_ENTRY || self.kind == KIND_STATE
    }
}

/// Bytes that a record with a body of `body_bytes` takes: header, body, padding to 8.
pub fn record_bytes(body_bytes: u32) -> u64 {
    u64::from(RECORD_HEADER_BYTES) + u64::from(body_bytes).next_multiple_of(8)
}

/// Start of every checksum of a segment: what carries another id or identity never passes as a record of this one.
pub fn segment_seed(identity: &Identity, segment: u32) -> u32 {
    let crc = crc32c_append(crc32c(identity), &segment.to_le_bytes());
    crc32c_append(crc, &0u32.to_le_bytes())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

/// Appends a header whose checksums `seal_record` fills in later.
pub fn push_record_header(target: &mut Vec<u8>, header: &RecordHeader) {
    target.extend_from_slice(&RECORD_MARKER.to_le_bytes());
    target.push(header.kind);
    target.push(header.flags);
    target.extend_from_slice(&header.group.to_le_bytes());
    target.extend_from_slice(&header.instance.to_le_bytes());
    target.extend_from_slice(&header.body_bytes.to_le_bytes());
    target.extend_from_slice(&header.batch.to_le_bytes());
    target.extend_from_slice(&[0; 16]);
}

/// Fills in link and checksums of the record that starts `bytes` and lies at `offset` of the segment; returns the
/// checksum of its header.
pub fn seal_record(bytes: &mut [u8], offset: u32, seed: u32, link: u32) -> u32 {
    let body_start = RECORD_HEADER_BYTES as usize;
    let body_bytes = u32_at(bytes, 16) as usize;
    let body_crc = crc32c(&bytes[body_start..body_start + body_bytes]);
    bytes[24..28].copy_from_slice(&link.to_le_bytes());
    bytes[28..32].copy_from_slice(&body_crc.to_le_bytes());
    let crc = header_crc(bytes, offset, seed);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn header_crc(bytes: &[u8], offset: u32, seed: u32) -> u32 {
    // One call over both: most of the cost of a short checksum is the call.
    let mut checked = [0; 4 + RECORD_CHECKED_BYTES];
    checked[..4].copy_from_slice(&offset.to_le_bytes());
    checked[4..].copy_from_slice(&bytes[..RECORD_CHECKED_BYTES]);
    crc32c_append(seed, &checked)
}

/// Reads the fields without checking them: only for bytes that this process framed itself.
pub fn decode_record_header(bytes: &[u8]) -> RecordHeader {
    RecordHeader {
        kind: bytes[2],
        flags: bytes[3],
        group: u32_at(bytes, 4),
        instance: u64::from(u32_at(bytes, 8)) | (u64::from(u32_at(bytes, 12)) << 32),
        body_bytes: u32_at(bytes, 16),
        batch: u32_at(bytes, 20),
        link: u32_at(bytes, 24),
        body_crc: u32_at(bytes, 28),
        header_crc: u32_at(bytes, 36),
    }
}

/// Reads the header that starts `bytes`, which lie at `offset` of the segment. None where there is no header of this
/// segment and position. A sound header of a kind or with flags that this version does not know is refused (Format).
pub fn read_record_header(bytes: &[u8], offset: u32, seed: u32) -> Result<Option<RecordHeader>> {
    if bytes.len() < RECORD_HEADER_BYTES as usize || bytes[..2] != RECORD_MARKER.to_le_bytes() {
        return Ok(None);
    }
    if header_crc(bytes, offset, seed) != u32_at(bytes, 36) {
        return Ok(None);
    }
    let header = decode_record_header(bytes);
    let known = (KIND_ENTRY..=KIND_MARK).contains(&header.kind) && header.flags <= FLAG_CONTINUES;
    if !known || u32_at(bytes, 32) != 0 {
        let RecordHeader { kind, flags, .. } = header;
        let message = format!("log record of unknown kind {kind}, flags {flags}: newer software?");
        return Err(LogError::new(ErrorCode::Format, message));
    }
    Ok(Some(header))
}

/// The first block of a segment file.
pub fn encode_segment_header(identity: &Identity, segment: u32, segment_bytes: u32) -> Vec<u8> {
    let mut block = vec![0; SEGMENT_HEADER_BYTES as usize];
    block[..8].copy_from_slice(SEGMENT_MAGIC);
    block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    block[12..16].copy_from_slice(&SEGMENT_HEADER_BYTES.to_le_bytes());
    block[16..32].copy_from_slice(identity);
    block[32..36].copy_from_slice(&segment.to_le_bytes());
    block[40..44].copy_from_slice(&segment_bytes.to_le_bytes());
    let crc = crc32c(&block[..SEGMENT_HEADER_USED_BYTES - 4]);
    block[SEGMENT_HEADER_USED_BYTES - 4..SEGMENT_HEADER_USED_BYTES].copy_from_slice(&crc.to_le_bytes());
    block
}

/// What a sound segment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Version of the format.
    pub version: u32,
    /// Whose log it is.
    pub identity: Identity,
    /// Id of the segment.
    pub segment: u32,
    /// Size of its file.
    pub segment_bytes: u32,
}

/// Reads the first block of a segment file; None if it is damaged. Refuses a sound one of an unknown version (Format).
pub fn read_segment_header(block: &[u8]) -> Result<Option<SegmentHeader>> {
    let crc_at = SEGMENT_HEADER_USED_BYTES - 4;
    if block.len() < SEGMENT_HEADER_BYTES as usize || block[..8] != *SEGMENT_MAGIC {
        return Ok(None);
    }
    if crc32c(&block[..crc_at]) != u32_at(block, crc_at) {
        return Ok(None);
    }
    let version = u32_at(block, 8);
    if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&version) {
        return Err(LogError::new(ErrorCode::Format, format!("log format version {version} is not known")));
    }
    let unused = &block[SEGMENT_HEADER_USED_BYTES..SEGMENT_HEADER_BYTES as usize];
    if unused.iter().any(|byte| *byte != 0) || u32_at(block, 36) != 0 {
        return Ok(None);
    }
    let mut identity = Identity::default();
    identity.copy_from_slice(&block[16..16 + IDENTITY_BYTES]);
    Ok(Some(SegmentHeader { version, identity, segment: u32_at(block, 32), segment_bytes: u32_at(block, 40) }))
}

/// The same, of this segment; None if it is damaged or that of another one. Refuses a sound one of another identity
/// (Identity) or of an unknown version (Format).
pub fn check_segment_header(block: &[u8], identity: &Identity, segment: u32) -> Result<Option<SegmentHeader>> {
    let Some(header) = read_segment_header(block)? else { return Ok(None) };
    check_identity(&header.identity, identity)?;
    Ok(Some(header).filter(|header| header.segment == segment))
}

/// An error (Identity) if they differ.
pub fn check_identity(found: &Identity, own: &Identity) -> Result<()> {
    if found == own {
        return Ok(());
    }
    let message = format!("the log belongs to identity {}, not to {}", hex(found), hex(own));
    Err(LogError::new(ErrorCode::Identity, message))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// File name of a segment: its id in ten digits.
pub fn segment_name(segment: u32) -> String {
    format!("{segment:010}.seg")
}

/// Name of the spare: a segment that is prepared and not yet part of the log.
pub fn spare_segment_name(segment: u32) -> String {
    format!("{}.new", segment_name(segment))
}

/// Name of a segment that was removed from the log, whose file waits to become a spare.
pub fn retired_segment_name(segment: u32) -> String {
    format!("{}.old", segment_name(segment))
}

/// Id of a segment by its file name, or None for any other file.
pub fn segment_of_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 10 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|segment| *segment >= 1)
}

/// Id in the name of a spare, or None for any other file.
pub fn segment_of_spare_name(name: &str) -> Option<u32> {
    name.strip_suffix(".new").and_then(segment_of_name)
}

/// Id in the name of a retired segment, or None for any other file.
pub fn segment_of_retired_name(name: &str) -> Option<u32> {
    name.strip_suffix(".old").and_then(segment_of_name)
}
