//! The log engine: what is asked of it on the caller's thread. `writer` and `keeper` are its threads.

use crate::contents::Segments;
use crate::error::{LogError, Result};
use crate::files::{Folder, LogFiles};
use crate::format::{Identity, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::keeper::Keeper;
use crate::lock::FolderLock;
use crate::marks::{LogPosition, Marks};
use crate::queue::{AppendQueue, Chain};
pub use crate::read::{BodyPlace, Entries, ReadPlan};
use crate::recovery::{Recovered, recover};
use crate::segment_file::OpenFiles;
use crate::shared::{InWork, KeeperState, Shared, SharedFiles, State, closed};
use crate::spare_segments::SpareSegments;
use crate::writer::Writer;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// One record to append: kind entry or state, key, and the parts that make up its body.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// KIND_ENTRY or KIND_STATE.
    pub kind: u8,
    /// Group of the key.
    pub group: u32,
    /// Instance (entry) or slot (state) of the key.
    pub instance: u64,
    /// Concatenated into the body.
    pub body: &'a [&'a [u8]],
}

/// A record that was found damaged and is not a torn tail. No key where the header itself is unreadable, and where a
/// whole segment is missing (offset 0) or the high-water marks are (segment 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRecord {
    /// Segment that holds it.
    pub segment: u32,
    /// Its place in the segment.
    pub offset: u32,
    /// Group of its key.
    pub group: Option<u32>,
    /// Instance of its key.
    pub instance: Option<u64>,
}

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Segment files.
    pub segments: u64,
    /// Records with a key.
    pub records: u64,
    /// Bytes that these take.
    pub bytes: u64,
    /// Bytes of an unfinished write that were wiped from the end of the newest segment.
    pub torn_bytes: u64,
    /// Damaged records.
    pub corrupt: Vec<CorruptRecord>,
    /// Unreadable copies of the high-water marks that no crash explains. They were written anew.
    pub damaged_marks: u32,
    /// Time that opening took, in milliseconds.
    pub elapsed_ms: f64,
}

/// Counters of a log.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Segment files.
    pub segments: u64,
    /// Bytes of all files of the log: segments, the spare and the retired ones.
    pub disk_bytes: u64,
    /// Bytes of the records that are not superseded or truncated.
    pub live_bytes: u64,
    /// Bytes of records that were copied out of sparse segments.
    pub rewritten_bytes: u64,
    /// Calls of fdatasync for appends.
    pub syncs: u64,
    /// Memory of the index in bytes.
    pub index_bytes: u64,
}

/// Which log to open.
#[derive(Clone)]
pub struct Options {
    /// Folder of the log; made if missing.
    pub folder: PathBuf,
    /// Names cluster and replica.
    pub identity: Identity,
    /// Size of a segment file: a multiple of 4096 from 8 KiB to 1 GiB.
    pub segment_bytes: u32,
    /// UNSAFE when false: appends are reported durable without a sync.
    pub sync: bool,
}

/// What the threads of a log tell its caller.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Appends that a commit completed, oldest first.
    pub appends: u32,
    /// Ends all other appends; no more are completed.
    pub failure: Option<LogError>,
    /// Whether there is no space for another segment, where that changed.
    pub low_on_space: Option<bool>,
    /// Calls of `settle` that are answered.
    pub settled: u32,
}

/// Called on the threads of the log, some of the calls with its mutex held: it must not call the log, nor wait.
pub type Committed = Box<dyn Fn(&Event) + Send + Sync>;

/// An open log. Its methods do not wait for the disk, except `open`, `close` and the reading of a plan.
pub struct Log {
    shared: Arc<Shared>,
    recovery: Recovery,
    closer: Mutex<Option<Closer>>,
}

/// What closing takes apart.
struct Closer {
    writer: JoinHandle<()>,
    keeper: JoinHandle<Marks>,
    lock: FolderLock,
}

impl Log {
    /// Opens the log of a folder. Errors: Locked, Identity, Format (an unknown one), Io.
    pub fn open(options: Options, files: Arc<dyn LogFiles>, committed: Committed) -> Result<Log> {
        let Options { folder, identity, segment_bytes, .. } = &options;
        let in_range = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(segment_bytes);
        assert!(in_range && segment_bytes % 4096 == 0, "segment_bytes is a multiple of 4096 from 8 KiB to 1 GiB");
        let what = format!("cannot open the log in {}", folder.display());
        let failed = |error: io::Error| LogError::io(&what, &error);
        files.make_folder(folder).map_err(failed)?;
        let lock = FolderLock::take(folder)?;
        let started = Instant::now();
        let open_files = OpenFiles::new(Arc::clone(&files));
        let log_files = SharedFiles { files, folder: Folder::new(folder.clone()), open_files };
        let Recovered { contents, spares, marks, report, tail, missing, marks_lost } = recover(&log_files, &options)?;
        let recovery = Recovery { elapsed_ms: started.elapsed().as_secs_f64() * 1000.0, ..report };
        let durable = LogPosition { segment: tail.segment, offset: tail.offset as u32 };
        let chain = Chain::new(*identity, &tail);
        let state = State {
            queue: AppendQueue::new(*segment_bytes, &tail),
            contents,
            spares,
            active: tail.segment,
            written: durable,
            durable,
            in_work: InWork::None,
            missing,
            marks_lost,
            low_on_space: tail.sealed,
            closing: false,
            starving: false,
            writer_ended: false,
            failure: None,
            keeper: KeeperState::new(durable, tail.sealed),
            settle_calls: 0,
            settled_calls: 0,
            syncs: 0,
        };
        if state.low_on_space {
            committed(&Event { low_on_space: Some(true), ..Event::default() });
        }
        let shared = Arc::new(Shared::new(options.clone(), log_files, committed, state));
        let writer = Writer::new(Arc::clone(&shared), chain);
        let writer = spawn("wal-writer", move || writer.run()).map_err(failed)?;
        let keeper = Keeper::new(Arc::clone(&shared), marks);
        let keeper = spawn("wal-keeper", move || keeper.run()).map_err(failed)?;
        Ok(Log { shared, recovery, closer: Mutex::new(Some(Closer { writer, keeper, lock })) })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Groups that have at least one record, ascending.
    pub fn groups(&self) -> Vec<u32> {
        self.shared.state().contents.groups().into_iter().collect()
    }

    /// Lowest and highest instance of the entries of a group.
    pub fn bounds(&self, group: u32) -> Option<(u64, u64)> {
        self.shared.state().contents.entries.bounds(group)
    }

    /// Whether there is such an entry.
    pub fn has(&self, group: u32, instance: u64) -> bool {
        self.shared.state().contents.entries.get(group, instance).is_some()
    }

    /// Latest durable body of a state record; an error (Corrupt) if it is damaged.
    pub fn state(&self, group: u32, slot: u64) -> Result<Option<Vec<u8>>> {
        Ok(self.shared.state().contents.states.get(group, slot)?.map(<[u8]>::to_vec))
    }

    /// Whether there is no space for another segment.
    pub fn low_on_space(&self) -> bool {
        self.shared.state().low_on_space
    }

    /// Copies the records into the queue, all of them or none. Errors: SizeTooLarge, FastReject, Full, Poisoned,
    /// Closed.
    pub fn append(&self, records: &[Record]) -> Result<()> {
        self.shared.append(|state| state.queue.append(records, !state.low_on_space))
    }

    /// The same of several appends that were promised to be taken: what has no space yet waits for it. Errors:
    /// Poisoned, Closed; SizeTooLarge, after which those before are taken.
    pub fn append_accepted<'a>(&self, appends: impl Iterator<Item = &'a [Record<'a>]>) -> Result<()> {
        self.shared.append(|state| {
            for records in appends {
                state.queue.append_accepted(records)?;
            }
            Ok(())
        })
    }

    /// Looks up entries of `group` with from <= instance <= through, ascending, until `bytes_max` bytes of bodies (one
    /// entry at least); `ReadPlan::read` fetches them, on any thread. An error (Closed) after `close`.
    pub fn plan_read(&self, group: u32, from: u64, through: u64, bytes_max: u64) -> Result<ReadPlan> {
        let state = self.shared.state();
        if state.closing {
            return Err(closed());
        }
        let located = state.contents.entries.range(group, from, through, bytes_max);
        Ok(ReadPlan::new(self.shared.options.identity, group, located, |segment| {
            Arc::clone(&state.contents.segments.get(segment).file)
        }))
    }

    /// Declares the entries of `group` below `before` dead. Nothing after `close`.
    pub fn truncate(&self, group: u32, before: u64) {
        let mut state = self.shared.state();
        if !state.closing {
            state.contents.truncate(group, before);
            self.shared.wake_keeper(&mut state);
        }
    }

    /// Declares that what damaged records without a key, missing segments or lost marks may have held has been replaced
    /// or is not needed. Nothing after `close`.
    pub fn forget_damage(&self) {
        let mut state = self.shared.state();
        if !state.closing {
            state.missing.clear();
            state.marks_lost = false;
            state.contents.condemn_unreadable();
            state.keeper.marks_due = true;
            self.shared.wake_keeper(&mut state);
        }
    }

    /// Asks to be told by an event when nothing waits to be written, moved, deleted or prepared, or only for space.
    pub fn settle(&self) {
        let mut state = self.shared.state();
        state.settle_calls += 1;
        self.shared.tell_settled(&mut state);
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let state = self.shared.state();
        let segments = &state.contents.segments;
        let beside = state.spares.len() as u64 * u64::from(self.shared.options.segment_bytes);
        Stats {
            segments: segments.len() as u64,
            disk_bytes: segments.size_bytes() + beside,
            live_bytes: segments.live_bytes(),
            rewritten_bytes: state.keeper.rewritten_bytes,
            syncs: state.syncs,
            index_bytes: state.contents.entries.bytes(),
        }
    }

    /// Writes what waits and the marks of a clean close, and releases the folder. Does nothing the second time. An
    /// error (Io) if the marks cannot be written: the log is not closed cleanly then.
    pub fn close(&self) -> Result<()> {
        self.shared.state().closing = true;
        self.shared.writer_wake.notify_one();
        let closer = self.closer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Closer { writer, keeper, lock }) = closer else { return Ok(()) };
        let ended = writer.join();
        self.shared.state().keeper.stopped = true;
        self.shared.keeper_wake.notify_one();
        let Ok(mut marks) = keeper.join() else { panic!("the keeper ends in order") };
        assert!(ended.is_ok(), "the writing thread ends in order");
        let failed = self.shared.state().failure.is_some();
        let synced = if failed { Ok(()) } else { self.shared.sync_written() };
        let mut state = self.shared.state();
        let record = state.marks_record(&[]);
        let written = synced.and_then(|()| if failed { Ok(()) } else { marks.write_clean(record) });
        // Closes the files, but for those that a plan still holds.
        state.contents.segments = Segments::default();
        state.spares = SpareSegments::default();
        drop(state);
        self.shared.folder.close();
        drop(marks);
        drop(lock);
        written.map_err(|error| LogError::io("the log is closed, but its marks could not be written", &error))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Whoever wants to know of an error closes it himself.
        let _ = self.close();
    }
}

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}
