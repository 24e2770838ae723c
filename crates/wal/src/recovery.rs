//! How opening finds out from the segment files what the log holds.

use crate::contents::Contents;
use crate::engine::{CorruptRecord, Options, Recovery};
use crate::error::{LogError, Result};
use crate::files::LogFiles;
use crate::format::{
    Identity, KIND_ENTRY, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, check_segment_header, is_unfinished_segment_name,
    record_bytes, segment_name, segment_of_name, segment_seed,
};
use crate::index::Place;
use crate::queue::Tail;
use crate::scan::{ScannedRecord, scan_segment};
use std::io;
use std::path::Path;

/// Reads all segments of the folder, oldest first, and cuts a torn tail. All that it returns is durable. Errors:
/// Identity if a segment belongs to another identity, Corrupt if its format is unknown, Io.
pub(crate) fn recover(files: &dyn LogFiles, options: &Options) -> Result<(Contents, Recovery, Tail)> {
    let Options { folder, identity, sync, .. } = options;
    let failed = |error: io::Error| LogError::io(&format!("cannot open the log in {}", folder.display()), &error);
    let ids = segments_of(files, folder).map_err(failed)?;
    let mut contents = Contents::default();
    let mut report = Recovery { segments: ids.len() as u64, ..Default::default() };
    let mut tail = first_of(identity, 1);
    for id in &ids {
        let id = *id;
        let newest = Some(&id) == ids.last();
        let file = files.open(&folder.join(segment_name(id))).map_err(failed)?;
        let mut bytes = vec![0; file.size().map_err(failed)? as usize];
        let filled = file.read(&mut bytes, 0).map_err(failed)?;
        assert_eq!(filled, bytes.len(), "a file is read to its end");
        contents.add_segment(id, file.clone(), bytes.len() as u64);
        let header_is_sound = check_segment_header(&bytes, identity, id)?;
        if !header_is_sound {
            report.corrupt.push(CorruptRecord { segment: id, offset: 0, group: None, instance: None });
        }
        let scan = scan_segment(&bytes, id, segment_seed(identity, id), newest, |record| {
            report.records += 1;
            report.bytes += record_bytes(record.header.body_bytes);
            put(&mut contents, id, &bytes, &record);
        })?;
        let segment = contents.segment(id);
        segment.unreadable = scan.corrupt.iter().filter(|record| record.group.is_none()).count() as u64;
        report.corrupt.extend(scan.corrupt);
        if !newest {
            continue;
        }
        report.torn_bytes = scan.torn_bytes;
        if scan.torn_bytes > 0 {
            // Cut, not overwritten: what is left of it could otherwise pass as records behind the next ones.
            file.resize(scan.end).map_err(failed)?;
            segment.size_bytes = scan.end;
        }
        // The records may have been read from memory that never reached the disk; the caller will build on them.
        if *sync {
            file.sync().map_err(failed)?;
            files.sync_folder(folder).map_err(failed)?;
        }
        tail = if header_is_sound && !scan.sealed {
            Tail { segment: id, offset: scan.end, link: scan.link, unmarked: scan.unmarked }
        } else {
            first_of(identity, id + 1)
        };
    }
    report.corrupt.retain(|record| !is_superseded(&contents, record));
    Ok((contents, report, tail))
}

fn first_of(identity: &Identity, segment: u32) -> Tail {
    let link = segment_seed(identity, segment);
    Tail { segment, offset: u64::from(SEGMENT_HEADER_BYTES), link, unmarked: false }
}

/// Ids of the segment files, ascending. Files of segments that were never used are removed.
fn segments_of(files: &dyn LogFiles, folder: &Path) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for name in files.list(folder)? {
        if let Some(id) = segment_of_name(&name) {
            ids.push(id);
        } else if is_unfinished_segment_name(&name) {
            files.unlink(&folder.join(name))?;
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

fn put(contents: &mut Contents, segment: u32, bytes: &[u8], record: &ScannedRecord) {
    let ScannedRecord { header, offset, damaged } = record;
    if header.kind == KIND_ENTRY {
        let place = Place { segment, offset: *offset, body_bytes: header.body_bytes };
        contents.put_entry(header.group, header.instance, place);
        return;
    }
    let start = *offset as usize + RECORD_HEADER_BYTES as usize;
    let body = (!damaged).then(|| bytes[start..start + header.body_bytes as usize].to_vec());
    contents.put_state(header.group, header.instance, segment, *offset, body);
}

/// Whether a later record of the same key has taken the damaged one's place: then it is repaired.
fn is_superseded(contents: &Contents, record: &CorruptRecord) -> bool {
    let (Some(group), Some(instance)) = (record.group, record.instance) else { return false };
    let damaged = Some((record.segment, record.offset));
    let entry = contents.entries.get(group, instance).map(|place| (place.segment, place.offset));
    entry != damaged && contents.states.place(group, instance) != damaged
}
