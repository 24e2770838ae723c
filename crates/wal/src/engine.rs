//! The log engine: what is asked of it on the caller's thread, and the thread that writes.

use crate::contents::Contents;
use crate::error::{ErrorCode, LogError, Result};
use crate::files::{LogFile, LogFiles};
use crate::format::{
    Identity, KIND_ENTRY, KIND_STATE, RECORD_HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES,
    decode_record_header, encode_segment_header, record_bytes, segment_name, unfinished_segment_name,
};
use crate::index::Place;
use crate::lock::FolderLock;
use crate::queue::{AppendQueue, Batch, Chain, Tail};
pub use crate::read::{Entries, ReadPlan};
use crate::recovery::recover;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Written as zeros behind a batch that reaches unwritten space, so that the next ones overwrite written blocks.
const ZEROS_AHEAD_BYTES: u64 = 1024 * 1024;
const BLOCK_BYTES: u64 = 4096;

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

/// A record that was found damaged and is not a torn tail. No key where the header itself is unreadable.
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
    /// Bytes of an unfinished write that were cut from the end of the newest segment.
    pub torn_bytes: u64,
    /// Damaged records.
    pub corrupt: Vec<CorruptRecord>,
    /// Time that opening took, in milliseconds.
    pub elapsed_ms: f64,
}

/// Counters of a log.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Segment files.
    pub segments: u64,
    /// Their bytes.
    pub disk_bytes: u64,
    /// Records appended since the log was opened.
    pub appended_records: u64,
    /// Bytes that these took.
    pub appended_bytes: u64,
    /// Calls of fdatasync.
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

/// Called on the writing thread after each commit: how many appends it completed, oldest first; an error ends all
/// others, and no call follows.
pub type Committed = Box<dyn FnMut(u32, Option<&LogError>) + Send>;

struct State {
    queue: AppendQueue,
    contents: Contents,
    /// The segment being written. Those before it are complete.
    active: u32,
    /// Batches at the front of the queue that the writer may take: the caller had no more for them in its turn.
    flushed_batches: usize,
    closing: bool,
    failure: Option<LogError>,
    /// Something was written since the last mark.
    unmarked: bool,
    appended_records: u64,
    appended_bytes: u64,
    syncs: u64,
}

impl State {
    /// Appends again the state records that alone keep an old segment.
    fn rewrite_states(&mut self) {
        let held = self.contents.states_to_rewrite(self.active);
        if held.is_empty() {
            return;
        }
        self.queue.append_rewritten(&held);
        for state in &held {
            self.contents.states.appended(state.group, state.slot);
        }
        self.flushed_batches = self.queue.batches();
    }

    /// The batch to write next, if there is one.
    fn take(&mut self) -> Option<Batch> {
        if self.flushed_batches == 0 && !self.closing {
            return None;
        }
        self.flushed_batches = self.flushed_batches.saturating_sub(1);
        self.queue.take()
    }

    /// Makes the records of a durable batch visible.
    fn index(&mut self, batch: &Batch) {
        let mut at = 0;
        while at < batch.bytes.len() {
            let header = decode_record_header(&batch.bytes[at..]);
            let offset = (batch.start + at as u64) as u32;
            if header.kind == KIND_ENTRY {
                let place = Place { segment: batch.segment, offset, body_bytes: header.body_bytes };
                self.contents.put_entry(header.group, header.instance, place);
            }
            if header.kind == KIND_STATE {
                let start = at + RECORD_HEADER_BYTES as usize;
                let body = batch.bytes[start..start + header.body_bytes as usize].to_vec();
                self.contents.put_state(header.group, header.instance, batch.segment, offset, Some(body));
            }
            at += record_bytes(header.body_bytes) as usize;
        }
    }
}

struct Shared {
    options: Options,
    files: Arc<dyn LogFiles>,
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file gets its name only when its header is durable: a segment file without one is damaged.
    fn create_segment(&self, id: u32) -> io::Result<Arc<dyn LogFile>> {
        let Options { folder, identity, segment_bytes, .. } = &self.options;
        let unfinished = folder.join(unfinished_segment_name(id));
        let file = self.files.create(&unfinished)?;
        file.write(&encode_segment_header(identity, id, *segment_bytes), 0)?;
        file.sync()?;
        self.files.rename(&unfinished, &folder.join(segment_name(id)))?;
        self.files.sync_folder(folder)?;
        Ok(file)
    }
}

/// An open log. Its methods do not wait for the disk, except `open`, `close` and the reading of a plan.
pub struct Log {
    shared: Arc<Shared>,
    recovery: Recovery,
    closer: Mutex<Option<Closer>>,
}

/// What closing takes apart.
struct Closer {
    writer: JoinHandle<()>,
    lock: FolderLock,
}

impl Log {
    /// Opens the log of a folder. Errors: Locked, Identity, Corrupt (an unknown format), Io.
    pub fn open(options: Options, files: Arc<dyn LogFiles>, committed: Committed) -> Result<Log> {
        let Options { folder, identity, segment_bytes, .. } = &options;
        let in_range = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(segment_bytes);
        assert!(in_range && segment_bytes % 4096 == 0, "segment_bytes is a multiple of 4096 from 8 KiB to 1 GiB");
        let what = format!("cannot open the log in {}", folder.display());
        files.make_folder(folder).map_err(|error| LogError::io(&what, &error))?;
        let lock = FolderLock::take(folder)?;
        let started = Instant::now();
        let (contents, mut recovery, tail) = recover(files.as_ref(), &options)?;
        recovery.elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
        let (queue, chain) = (AppendQueue::new(*segment_bytes, &tail), Chain::new(*identity, &tail));
        let shared = Arc::new(Shared::new(options, files, queue, contents, &tail));
        shared.start(&tail).map_err(|error| LogError::io(&what, &error))?;
        let writer = Writer { shared: Arc::clone(&shared), chain, committed };
        let thread = std::thread::Builder::new().name("wal-writer".into()).spawn(move || writer.run());
        let writer = thread.map_err(|error| LogError::io(&what, &error))?;
        Ok(Log { shared, recovery, closer: Mutex::new(Some(Closer { writer, lock })) })
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

    /// Copies the records into the queue, all of them or none; they are written after `flush`. Errors: SizeTooLarge,
    /// FastReject, Poisoned, Closed.
    pub fn append(&self, records: &[Record]) -> Result<()> {
        let mut state = self.shared.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.closing {
            return Err(closed());
        }
        state.appended_bytes += state.queue.append(records)?;
        state.appended_records += records.len() as u64;
        for record in records.iter().filter(|record| record.kind == KIND_STATE) {
            state.contents.states.appended(record.group, record.instance);
        }
        Ok(())
    }

    /// Wakes the thread that writes.
    pub fn flush(&self) {
        let mut state = self.shared.state();
        state.flushed_batches = state.queue.batches();
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Looks up entries of `group` with from <= instance <= through, ascending, until `bytes_max` bytes of bodies (one
    /// entry at least); `ReadPlan::read` fetches them, on any thread. An error (Closed) after `close`.
    pub fn plan_read(&self, group: u32, from: u64, through: u64, bytes_max: u64) -> Result<ReadPlan> {
        let mut state = self.shared.state();
        if state.closing {
            return Err(closed());
        }
        let located = state.contents.entries.range(group, from, through, bytes_max);
        let mut with_file =
            |located: crate::index::Located| (located, Arc::clone(&state.contents.segment(located.place.segment).file));
        let located = located.into_iter().map(&mut with_file).collect();
        Ok(ReadPlan { identity: self.shared.options.identity, group, located })
    }

    /// Declares the entries of `group` below `before` dead. Nothing after `close`.
    pub fn truncate(&self, group: u32, before: u64) {
        let mut state = self.shared.state();
        if state.closing {
            return;
        }
        state.contents.truncate(group, before);
        if state.failure.is_none() {
            state.rewrite_states();
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let state = self.shared.state();
        let segments = &state.contents.segments;
        Stats {
            segments: segments.len() as u64,
            disk_bytes: segments.values().map(|segment| segment.size_bytes).sum(),
            appended_records: state.appended_records,
            appended_bytes: state.appended_bytes,
            syncs: state.syncs,
            index_bytes: state.contents.entries.bytes(),
        }
    }

    /// Writes what waits and the mark of a clean close, and releases the folder. Does nothing the second time.
    pub fn close(&self) {
        self.shared.state().closing = true;
        self.shared.wake.notify_one();
        let closer = self.closer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Closer { writer, lock }) = closer {
            let ended = writer.join();
            assert!(ended.is_ok(), "the writing thread ends in order");
            // Closes the files, but for those that a plan still holds.
            self.shared.state().contents.segments.clear();
            drop(lock);
        }
    }
}

fn closed() -> LogError {
    LogError::new(ErrorCode::Closed, "the log is closed")
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn new(options: Options, files: Arc<dyn LogFiles>, queue: AppendQueue, contents: Contents, tail: &Tail) -> Self {
        let state = State {
            queue,
            contents,
            active: tail.segment,
            flushed_batches: 0,
            closing: false,
            failure: None,
            unmarked: tail.unmarked,
            appended_records: 0,
            appended_bytes: 0,
            syncs: 0,
        };
        Shared { options, files, state: Mutex::new(state), wake: Condvar::new() }
    }

    /// Makes the segment that the first append goes to, if recovery found none that goes on.
    fn start(&self, tail: &Tail) -> io::Result<()> {
        if !self.state().contents.segments.contains_key(&tail.segment) {
            let file = self.create_segment(tail.segment)?;
            self.state().contents.add_segment(tail.segment, file, u64::from(SEGMENT_HEADER_BYTES));
        }
        self.state().rewrite_states();
        Ok(())
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    chain: Chain,
    committed: Committed,
}

enum Work {
    Batch(Batch),
    Sweep,
    End,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (result, batch) = match self.next() {
                Work::Batch(mut batch) => (self.commit(&mut batch).and_then(|()| self.remove_dead()), Some(batch)),
                Work::Sweep => (self.remove_dead(), None),
                Work::End => return,
            };
            if let Err(error) = result {
                return self.poison(&error);
            }
            if let Some(batch) = batch {
                let appends = batch.appends;
                self.shared.state().queue.recycle(batch.bytes);
                if appends > 0 {
                    (self.committed)(appends, None);
                }
            }
        }
    }

    /// Waits for something to do.
    fn next(&self) -> Work {
        let mut state = self.shared.state();
        loop {
            if let Some(batch) = state.take() {
                return Work::Batch(batch);
            }
            if state.contents.may_have_dead() {
                return Work::Sweep;
            }
            if state.closing && state.unmarked {
                state.unmarked = false;
                state.queue.append_mark();
                continue;
            }
            if state.closing {
                return Work::End;
            }
            state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn commit(&mut self, batch: &mut Batch) -> io::Result<()> {
        if batch.bytes.is_empty() {
            return Ok(());
        }
        self.chain.seal(batch);
        let (file, size_bytes) = self.segment(batch.segment)?;
        let end = batch.start + batch.bytes.len() as u64;
        file.write(&batch.bytes, batch.start)?;
        if end > size_bytes {
            let segment_bytes = u64::from(self.shared.options.segment_bytes);
            let ahead = (end + ZEROS_AHEAD_BYTES).min(segment_bytes.max(end));
            let grown = ahead.next_multiple_of(BLOCK_BYTES);
            file.write(&ZEROS[..(grown - end) as usize], end)?;
            self.shared.state().contents.segment(batch.segment).size_bytes = grown;
        }
        let sync = self.shared.options.sync;
        if sync {
            file.sync()?;
        }
        let mut state = self.shared.state();
        state.syncs += u64::from(sync);
        state.unmarked = !batch.mark;
        state.index(batch);
        state.rewrite_states();
        Ok(())
    }

    /// File and size of the segment to write to, made if it is a new one.
    fn segment(&self, id: u32) -> io::Result<(Arc<dyn LogFile>, u64)> {
        if id != self.shared.state().active {
            let file = self.shared.create_segment(id)?;
            let mut state = self.shared.state();
            state.contents.add_segment(id, file, u64::from(SEGMENT_HEADER_BYTES));
            state.active = id;
        }
        let mut state = self.shared.state();
        let segment = state.contents.segment(id);
        Ok((Arc::clone(&segment.file), segment.size_bytes))
    }

    fn remove_dead(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        let active = state.active;
        let dead = state.contents.take_dead(active);
        drop(state);
        if dead.is_empty() {
            return Ok(());
        }
        let Options { folder, .. } = &self.shared.options;
        for id in dead {
            self.shared.files.unlink(&folder.join(segment_name(id)))?;
        }
        self.shared.files.sync_folder(folder)
    }

    /// Nothing is retried: after a failed sync nobody knows what is on the disk.
    fn poison(&mut self, error: &io::Error) {
        let message = format!("a write or sync of the log failed: {error}");
        let failure = LogError::new(ErrorCode::Poisoned, message);
        let mut state = self.shared.state();
        state.failure = Some(failure.clone());
        while state.queue.take().is_some() {}
        drop(state);
        (self.committed)(0, Some(&failure));
    }
}

static ZEROS: [u8; (ZEROS_AHEAD_BYTES + BLOCK_BYTES) as usize] = [0; (ZEROS_AHEAD_BYTES + BLOCK_BYTES) as usize];
