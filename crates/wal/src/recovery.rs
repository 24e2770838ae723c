//! How opening finds out from the files of the folder what the log holds.

use crate::contents::{Contents, Key};
use crate::engine::{CorruptRecord, Options, Recovery};
use crate::error::{ErrorCode, LogError, Result, is_lack_of_space};
use crate::files::{LogFile, LogFiles};
use crate::format::{
    FORMAT_VERSION, Identity, KIND_ENTRY, KIND_SEAL, KIND_STATE, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
    push_record_header, record_bytes, seal_record, segment_name, segment_of_name, segment_seed,
};
use crate::found_segment::{FoundRecord, FoundSegment, SegmentFiles};
use crate::index::Place;
use crate::marks::{FoundMarks, LogPosition, MARKS_NAME, Marks, MarksRecord, SEGMENTS_MAX, UNFINISHED_MARKS_NAME};
use crate::queue::Tail;
use crate::scan::SegmentScan;
use crate::segment_file::OpenFiles;
use crate::shared::SharedFiles;
use crate::spare_segments::{Spare, SpareSegments, SpareWork};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Torn bytes are wiped in writes of this size.
const WIPE_BYTES: u64 = 1024 * 1024;

/// What opening found. All of it is durable; the log goes on at `tail`, whose segment is there. It is a sealed one if
/// there is no space for another.
pub(crate) struct Recovered {
    pub contents: Contents,
    pub spares: SpareSegments,
    pub marks: Marks,
    pub report: Recovery,
    pub tail: Tail,
    /// Segments that the marks list and that are gone.
    pub missing: Vec<u32>,
    /// The marks themselves were lost, now or at an earlier opening.
    pub marks_lost: bool,
}

/// Reads all segments of the folder, oldest first, and wipes a torn tail. Errors: Identity if a file belongs to another
/// identity, Format if it is unknown, Io.
pub(crate) fn recover(log_files: &SharedFiles, options: &Options) -> Result<Recovered> {
    let Options { folder, identity, segment_bytes, .. } = options;
    let SharedFiles { files, folder: held_folder, open_files } = log_files;
    let failed = |error: io::Error| io_error(folder, &error);
    let names = files.list(folder).map_err(failed)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(UNFINISHED_MARKS_NAME) {
        files.unlink(&folder.join(UNFINISHED_MARKS_NAME)).map_err(failed)?;
    }
    let opened = if has(MARKS_NAME) { Some(Marks::open(files.as_ref(), folder, *identity)?) } else { None };
    let (marks, found) = opened.unzip();
    let found: FoundMarks = found.unwrap_or_default();
    // So may the names have been read from memory only.
    if has(MARKS_NAME) || names.iter().any(|name| segment_of_name(name).is_some()) {
        files.sync_folder(held_folder).map_err(failed)?;
    }
    let ids = segments_of(files.as_ref(), folder, &names, found.record.as_ref()).map_err(failed)?;
    let mut recovering = Recovering::new(options, &found, ids)?;
    recovering.read_segments(log_files)?;

    let Recovering { contents, mut report, mut tail, sealed_tail, missing, marks_lost, .. } = recovering;
    report.corrupt.retain(|record| !is_superseded(&contents, record));
    let record = marks_record(&contents, &missing, marks_lost, LogPosition::default());
    let mut marks = match marks {
        Some(marks) => marks,
        None => Marks::create(files.as_ref(), held_folder, *identity, &record).map_err(failed)?,
    };
    let work = SpareWork { files: files.as_ref(), folder: held_folder, identity, segment_bytes: *segment_bytes };
    let mut contents = contents;
    // The marks can list no more.
    let may_add = contents.segments.len() + missing.len() < SEGMENTS_MAX;
    let spares = start_tail(&work, open_files, &names, &mut contents, &mut tail, sealed_tail, may_add)?;
    let durable = LogPosition { segment: tail.segment, offset: tail.offset as u32 };
    marks.write(&marks_record(&contents, &missing, marks_lost, durable)).map_err(failed)?;
    Ok(Recovered { contents, spares, marks, report, tail, missing, marks_lost })
}

/// What the marks should say.
pub(crate) fn marks_record(contents: &Contents, missing: &[u32], lost: bool, durable: LogPosition) -> MarksRecord {
    let mut segments: Vec<u32> = contents.segments.ids().chain(missing.iter().copied()).collect();
    segments.sort_unstable();
    MarksRecord { durable, segments, clean: false, lost }
}

struct Recovering<'a> {
    options: &'a Options,
    found: &'a FoundMarks,
    /// Segments whose files are there, ascending.
    ids: Vec<u32>,
    /// Where the log goes on if not in the newest of them. Ids are never used twice, not even that of a missing
    /// segment.
    next: u32,
    missing: Vec<u32>,
    marks_lost: bool,
    contents: Contents,
    report: Recovery,
    tail: Tail,
    /// The end of the newest segment, if the next id follows it and `tail` is not in it.
    sealed_tail: Option<Tail>,
    entries: EntryRun,
}

impl<'a> Recovering<'a> {
    fn new(options: &'a Options, found: &'a FoundMarks, ids: Vec<u32>) -> Result<Self> {
        let listed = found.record.as_ref().map_or(&[][..], |record| &record.segments);
        let missing: Vec<u32> = listed.iter().copied().filter(|id| ids.binary_search(id).is_err()).collect();
        let newest = ids.last().copied().max(listed.last().copied()).unwrap_or(0);
        let Some(next) = newest.checked_add(1) else {
            return Err(LogError::new(ErrorCode::Io, "the ids of the log's segments are used up"));
        };
        let mut report = Recovery { segments: ids.len() as u64, damaged_marks: found.damaged, ..Recovery::default() };
        report.corrupt.extend(missing.iter().map(|segment| keyless(*segment)));
        let tail = first_of(&options.identity, next);
        let marks_lost = found.record.as_ref().is_some_and(|record| record.lost);
        let (contents, sealed_tail, entries) = Default::default();
        Ok(Recovering { options, found, ids, next, missing, marks_lost, contents, report, tail, sealed_tail, entries })
    }

    fn read_segments(&mut self, log_files: &SharedFiles) -> Result<()> {
        let SharedFiles { files, open_files, .. } = log_files;
        let (ids, options, record) = (self.ids.clone(), self.options, self.found.record.as_ref());
        let newest = ids.last().copied();
        let mut newest_version = 0;
        SegmentFiles { files: files.as_ref(), options, ids: &ids }.read(
            |id| durable_end(record, id, newest),
            |segment| {
                let version = segment.header.map_or(FORMAT_VERSION, |header| header.version);
                newest_version = newest_version.max(version);
                self.take_segment(segment, open_files)
            },
        )?;
        self.marks_lost |= record.is_none() && newest_version >= FORMAT_VERSION;
        if self.marks_lost {
            self.report.corrupt.push(keyless(0));
        }
        Ok(())
    }

    fn take_segment(&mut self, segment: FoundSegment, open_files: &Arc<OpenFiles>) -> Result<()> {
        let FoundSegment { id, file, size_bytes, header, scan, records } = segment;
        let failed = |error: io::Error| io_error(&self.options.folder, &error);
        let segment_file = open_files.hold(self.options.folder.join(segment_name(id)), Arc::clone(&file));
        self.contents.segments.add(id, Arc::clone(&segment_file), size_bytes);
        if header.is_none() {
            self.note_corrupt(id, &[keyless(id)]);
        }
        records.into_iter().for_each(|record| self.put(record));
        self.entries.flush(&mut self.contents);
        self.note_corrupt(id, &scan.corrupt);
        if Some(&id) == self.ids.last() {
            self.report.torn_bytes = scan.torn_bytes;
            wipe(file.as_ref(), scan.end, scan.torn_bytes).map_err(failed)?;
            if !scan.ended {
                self.go_on(file.as_ref(), id, &scan, header, size_bytes).map_err(failed)?;
            }
            if self.tail.segment != id && self.next == id + 1 {
                self.sealed_tail = Some(Tail { segment: id, offset: scan.end, link: scan.link, sealed: true });
            }
            self.make_durable(id, file.as_ref(), scan.end).map_err(failed)?;
        }
        if self.tail.segment != id {
            segment_file.release();
        }
        Ok(())
    }

    /// Records that are not known to be durable may have been read from memory whose sync never came, or failed: then
    /// no other sync would write them. The caller will build on them.
    fn make_durable(&self, id: u32, file: &dyn LogFile, end: u64) -> io::Result<()> {
        let start = durable_end(self.found.record.as_ref(), id, Some(id)).max(u64::from(SEGMENT_HEADER_BYTES));
        if start < end {
            let mut unsure = vec![0; (end - start) as usize];
            let filled = file.read(&mut unsure, start)?;
            file.write(&unsure[..filled], start)?;
        }
        file.sync()
    }

    fn put(&mut self, record: FoundRecord) {
        let FoundRecord { key: Key { kind, group, instance }, place, damaged, state } = record;
        self.report.records += 1;
        self.report.bytes += record_bytes(place.body_bytes);
        if kind == KIND_ENTRY {
            self.entries.push(&mut self.contents, group, instance, place);
        } else {
            self.contents.put_state(group, instance, place, state);
        }
        if damaged {
            self.entries.flush(&mut self.contents);
            self.contents.segments.update(place.segment, |segment| segment.damaged.insert(place.offset));
        }
    }

    fn note_corrupt(&mut self, id: u32, corrupt: &[CorruptRecord]) {
        let unreadable = corrupt.iter().filter(|record| record.group.is_none()).count() as u64;
        self.contents.segments.update(id, |segment| segment.unreadable += unreadable);
        self.report.corrupt.extend_from_slice(corrupt);
    }

    /// The newest segment goes on where it ended if it is as one that is made now; another one is sealed, also one that
    /// holds damage without a key, so that it can be rewritten.
    fn go_on(
        &mut self,
        file: &dyn LogFile,
        id: u32,
        scan: &SegmentScan,
        header: Option<SegmentHeader>,
        size_bytes: u64,
    ) -> io::Result<()> {
        let segment_bytes = self.options.segment_bytes;
        let alike = |header: SegmentHeader| (header.version, header.segment_bytes) == (FORMAT_VERSION, segment_bytes);
        let readable = self.contents.segments.get(id).unreadable == 0;
        let full_size = size_bytes == u64::from(segment_bytes);
        if header.is_some_and(alike) && readable && full_size && self.next == id + 1 {
            self.tail = Tail { segment: id, offset: scan.end, link: scan.link, sealed: false };
            return Ok(());
        }
        let mut seal = Vec::new();
        let batch = scan.end as u32;
        push_record_header(&mut seal, &RecordHeader { kind: KIND_SEAL, batch, ..Default::default() });
        seal_record(&mut seal, batch, segment_seed(&self.options.identity, id), scan.link);
        file.write(&seal, scan.end)
    }
}

/// Up to where a segment was durable, as far as the marks know.
fn durable_end(record: Option<&MarksRecord>, id: u32, newest: Option<u32>) -> u64 {
    let durable = record.map_or(LogPosition::default(), |record| record.durable);
    if Some(id) != newest || durable.segment > id {
        return u64::MAX;
    }
    if durable.segment == id { u64::from(durable.offset) } else { 0 }
}

const RUN_ENTRIES_MAX: usize = 1024;

/// Entries of one group and segment that follow each other, for the index to take at once.
#[derive(Default)]
struct EntryRun {
    group: u32,
    entries: Vec<(u64, Place)>,
}

impl EntryRun {
    fn push(&mut self, contents: &mut Contents, group: u32, instance: u64, place: Place) {
        if group != self.group || self.entries.len() == RUN_ENTRIES_MAX {
            self.flush(contents);
            self.group = group;
        }
        self.entries.push((instance, place));
    }

    fn flush(&mut self, contents: &mut Contents) {
        contents.put_entries(self.group, &self.entries);
        self.entries.clear();
    }
}

fn io_error(folder: &Path, error: &io::Error) -> LogError {
    LogError::io(&format!("cannot open the log in {}", folder.display()), error)
}

fn keyless(segment: u32) -> CorruptRecord {
    CorruptRecord { segment, offset: 0, group: None, instance: None }
}

fn first_of(identity: &Identity, segment: u32) -> Tail {
    let (offset, link) = (u64::from(SEGMENT_HEADER_BYTES), segment_seed(identity, segment));
    Tail { segment, offset, link, sealed: false }
}

/// Ids of the segment files, ascending. Those that the marks say are removed go for good.
fn segments_of(
    files: &dyn LogFiles,
    folder: &Path,
    names: &[String],
    record: Option<&MarksRecord>,
) -> io::Result<Vec<u32>> {
    let listed = record.map_or(&[][..], |record| &record.segments);
    let highest = listed.last().copied().unwrap_or(0);
    let mut ids = Vec::new();
    for id in names.iter().filter_map(|name| segment_of_name(name)) {
        if id >= highest || listed.binary_search(&id).is_ok() {
            ids.push(id);
        } else {
            files.unlink(&folder.join(segment_name(id)))?;
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Takes over the files beside the log, and makes the segment that the log goes on in if it is a new one. Without space
/// for it the tail is the `sealed` one, if there is one.
fn start_tail(
    work: &SpareWork,
    open_files: &Arc<OpenFiles>,
    names: &[String],
    contents: &mut Contents,
    tail: &mut Tail,
    sealed: Option<Tail>,
    may_add: bool,
) -> Result<SpareSegments> {
    let failed = |error: io::Error| io_error(work.folder.path(), &error);
    let id = tail.segment;
    let is_new = !contents.segments.contains(id);
    let mut spares = work.adopt(names, if is_new { id } else { id + 1 })?;
    if !is_new {
        return Ok(spares);
    }
    let made = match (&spares.spare, may_add) {
        (_, false) => Err(io::Error::from(io::ErrorKind::StorageFull)),
        (Some(_), true) => Ok(()),
        (None, true) => work.make(id, &mut spares),
    };
    match (made, sealed) {
        (Err(error), Some(sealed)) if is_lack_of_space(&error) => {
            *tail = sealed;
            return Ok(spares);
        }
        (made, _) => made.map_err(failed)?,
    }
    work.take(id).map_err(failed)?;
    if let Some(Spare { file, .. }) = spares.spare.take() {
        let file = open_files.hold(work.folder.path().join(segment_name(id)), file);
        contents.segments.add(id, file, u64::from(work.segment_bytes));
    }
    Ok(spares)
}

fn wipe(file: &dyn LogFile, start: u64, bytes: u64) -> io::Result<()> {
    let mut at = start;
    while at < start + bytes {
        let length = WIPE_BYTES.min(start + bytes - at);
        file.write(&vec![0; length as usize], at)?;
        at += length;
    }
    Ok(())
}

/// Whether a later record of the same key has taken the damaged one's place: then it is repaired.
fn is_superseded(contents: &Contents, record: &CorruptRecord) -> bool {
    let (Some(group), Some(instance)) = (record.group, record.instance) else { return false };
    let is_current = |kind| contents.is_live(Key { kind, group, instance }, record.segment, record.offset);
    !is_current(KIND_ENTRY) && !is_current(KIND_STATE)
}
