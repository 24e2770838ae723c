//! What the threads of a log share: its state under one mutex, which nobody holds while a file is read or written, and
//! the means to wake each other.

use crate::contents::{Contents, Key};
use crate::engine::{Committed, Event, Options};
use crate::error::{ErrorCode, LogError, Result};
use crate::files::{Folder, LogFiles};
use crate::format::{KIND_ENTRY, KIND_STATE, RECORD_HEADER_BYTES};
use crate::index::Place;
use crate::marks::{LogPosition, MarksRecord};
use crate::queue::{AppendQueue, Batch};
use crate::recovery::marks_record;
use crate::segment_file::OpenFiles;
use crate::spare_segments::{SpareSegments, SpareWork};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The marks lag behind the log by this at most.
const MARKS_INTERVAL: Duration = Duration::from_millis(200);
/// After an attempt to make a segment that failed for lack of space.
pub(crate) const SPACE_RETRY: Duration = Duration::from_secs(1);

/// The batch that the writer has.
#[derive(Default)]
pub(crate) enum InWork {
    #[default]
    None,
    /// Its checksums are being computed.
    Sealing,
    /// It is durable and visible, and about to be reported.
    Reporting,
    /// It is being written.
    Writing(Arc<Batch>),
}

/// What the keeper has to look for, and whether it is at it.
#[derive(Default)]
pub(crate) struct KeeperState {
    /// Something changed that it may have to do something about.
    pub woken: bool,
    /// In the midst of its steps.
    pub running: bool,
    /// The step that is being done is the last.
    pub stopped: bool,
    /// A segment is being rewritten.
    pub rewriting: bool,
    /// Copies are not durable yet.
    pub copying: bool,
    /// Up to here the marks were written.
    pub marked: LogPosition,
    /// When to write them next.
    pub marks_at: Option<Instant>,
    pub marks_due: bool,
    /// When to try again to make a spare.
    pub retry_at: Option<Instant>,
    /// While there is no room: it is time to try again. An attempt is no room yet.
    pub retry_due: bool,
    pub rewritten_bytes: u64,
}

impl KeeperState {
    /// It looks for what there is to do first. A log that was opened on a full disk has just tried to make a segment.
    pub fn new(marked: LogPosition, low_on_space: bool) -> Self {
        let retry_at = low_on_space.then(|| Instant::now() + SPACE_RETRY);
        KeeperState { woken: true, marked, retry_at, ..KeeperState::default() }
    }
}

pub(crate) struct State {
    pub queue: AppendQueue,
    pub contents: Contents,
    pub spares: SpareSegments,
    /// The segment being written. Those before it are complete.
    pub active: u32,
    /// All before it is written.
    pub written: LogPosition,
    /// All before it is durable. Where appends are not synced it lags behind.
    pub durable: LogPosition,
    pub in_work: InWork,
    /// Segments that are gone; the marks go on listing them.
    pub missing: Vec<u32>,
    pub marks_lost: bool,
    /// There is no spare, and no space for one.
    pub low_on_space: bool,
    pub closing: bool,
    /// The writer waits for a segment.
    pub starving: bool,
    /// The writer takes no batch any more.
    pub writer_ended: bool,
    pub failure: Option<LogError>,
    pub keeper: KeeperState,
    /// Calls of `settle` so far, and how many of them were answered.
    pub settle_calls: u64,
    pub settled_calls: u64,
    pub syncs: u64,
}

impl State {
    /// What the marks should say.
    pub fn marks_record(&self, without: &[u32]) -> MarksRecord {
        let mut record = marks_record(&self.contents, &self.missing, self.marks_lost, self.durable);
        record.segments.retain(|id| without.binary_search(id).is_err());
        record
    }

    /// Makes the records of a durable batch visible.
    pub fn index(&mut self, batch: &Batch) {
        let segment = batch.segment;
        for (start, header) in batch.records() {
            let key = Key { kind: header.kind, group: header.group, instance: header.instance };
            if !header.has_key() {
                continue;
            }
            // A copy of what has died or got a successor meanwhile is dead on arrival.
            let from = batch.copied_from;
            if from != 0 && self.contents.place_of(key).is_none_or(|place| place.segment != from) {
                continue;
            }
            let offset = (batch.start + start as u64) as u32;
            let place = Place { segment, offset, body_bytes: header.body_bytes };
            if header.kind == KIND_ENTRY {
                self.contents.put_entries(header.group, &[(header.instance, place)]);
            }
            if header.kind == KIND_STATE {
                let start = start + RECORD_HEADER_BYTES as usize;
                let body = batch.bytes[start..start + header.body_bytes as usize].to_vec();
                self.contents.put_state(header.group, header.instance, place, Some(body));
            }
        }
    }

    /// The segment that is rewritten next. Where entries die in the order in which they came, only the oldest segment is
    /// sparse, and soon dead.
    pub fn sparse_segment(&self) -> Option<u32> {
        let slack_bytes = if self.low_on_space { 0 } else { self.contents.segments.get(self.active).size_bytes };
        self.contents.sparse_before(self.active, slack_bytes)
    }

    /// Whether the keeper would find something to do at once.
    fn keeper_has_work(&self) -> bool {
        let may_try = !self.low_on_space || self.keeper.retry_due;
        let needs_spare = may_try && !self.spares.has(self.active + 1);
        let sparse = || self.keeper.rewriting || self.sparse_segment().is_some();
        let copies = || !self.keeper.copying && sparse();
        needs_spare || self.keeper.marks_due || self.contents.has_dead_before(self.active) || copies()
    }

    /// Sets the time to write the marks if they lag behind; whether it was not set before.
    pub fn arm_marks(&mut self) -> bool {
        let due = self.keeper.marks_at.is_none() && self.keeper.marked != self.durable;
        if due {
            self.keeper.marks_at = Some(Instant::now() + MARKS_INTERVAL);
        }
        due
    }

    fn is_settled(&self) -> bool {
        let writer_rests = self.queue.is_empty() && matches!(self.in_work, InWork::None);
        let keeper_rests = self.keeper.stopped || !self.keeper.woken;
        !self.keeper.running && keeper_rests && (writer_rests || (self.starving && self.low_on_space))
    }
}

/// The files of a log, and which of them are open.
pub(crate) struct SharedFiles {
    pub files: Arc<dyn LogFiles>,
    pub folder: Folder,
    pub open_files: Arc<OpenFiles>,
}

pub(crate) struct Shared {
    pub options: Options,
    pub files: Arc<dyn LogFiles>,
    pub folder: Folder,
    pub open_files: Arc<OpenFiles>,
    pub committed: Committed,
    state: Mutex<State>,
    /// For the writer: an append, a spare, an end.
    pub writer_wake: Condvar,
    /// For the keeper: `keeper.woken`, or a batch is sealed.
    pub keeper_wake: Condvar,
}

impl Shared {
    pub fn new(options: Options, log_files: SharedFiles, committed: Committed, state: State) -> Self {
        let SharedFiles { files, folder, open_files } = log_files;
        let (writer_wake, keeper_wake) = (Condvar::new(), Condvar::new());
        Shared { options, files, folder, open_files, committed, state: Mutex::new(state), writer_wake, keeper_wake }
    }

    /// A panic of a thread that held it has ended the process, or the test, already.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a>(&self, wake: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        wake.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    pub fn spare_work(&self) -> SpareWork<'_> {
        let Options { identity, segment_bytes, .. } = &self.options;
        SpareWork { files: self.files.as_ref(), folder: &self.folder, identity, segment_bytes: *segment_bytes }
    }

    /// Wakes the keeper if it has something to do. Call it when a batch is durable, a segment was begun, or records
    /// died.
    pub fn wake_keeper(&self, state: &mut State) {
        if state.keeper.stopped {
            return;
        }
        let mut wake = state.arm_marks() && !state.keeper.running;
        if state.keeper_has_work() && !state.keeper.woken {
            state.keeper.woken = true;
            wake = true;
        }
        if wake {
            self.keeper_wake.notify_one();
        }
    }

    /// Ends the log. The writer tells the caller.
    pub fn fail(&self, failure: LogError) {
        let mut state = self.state();
        state.failure.get_or_insert(failure);
        state.keeper.stopped = true;
        self.writer_wake.notify_one();
        self.keeper_wake.notify_one();
    }

    /// Syncs what is written where appends are not synced: before a segment is begun, so that only the newest one may
    /// lose records, before segments are removed whose records were moved, and before a clean close.
    pub fn sync_written(&self) -> io::Result<()> {
        let state = self.state();
        let written = state.written;
        if self.options.sync || written == state.durable {
            return Ok(());
        }
        let file = Arc::clone(&state.contents.segments.get(written.segment).file);
        drop(state);
        file.open()?.sync()?;
        let mut state = self.state();
        state.durable = state.durable.max(written);
        Ok(())
    }

    pub fn set_low_on_space(&self, state: &mut State, low_on_space: bool) {
        if state.low_on_space == low_on_space {
            return;
        }
        state.low_on_space = low_on_space;
        // Under the mutex, so that the caller learns of changes in their order.
        (self.committed)(&Event { low_on_space: Some(low_on_space), ..Event::default() });
        self.writer_wake.notify_one();
    }

    /// Answers the calls of `settle` if there is nothing left to do.
    pub fn tell_settled(&self, state: &mut State) {
        if state.settled_calls == state.settle_calls || !state.is_settled() {
            return;
        }
        let calls = (state.settle_calls - state.settled_calls) as u32;
        state.settled_calls = state.settle_calls;
        (self.committed)(&Event { settled: calls, ..Event::default() });
    }

    /// Copies the records of appends into the queue and wakes the writer; see `Log::append`.
    pub fn append(&self, append: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.closing {
            return Err(closed());
        }
        append(&mut state)?;
        drop(state);
        self.writer_wake.notify_one();
        Ok(())
    }
}

/// The error of a log in which a write or sync failed.
pub(crate) fn poisoned(error: &io::Error) -> LogError {
    LogError::new(ErrorCode::Poisoned, format!("a write or sync of the log failed: {error}"))
}

pub(crate) fn closed() -> LogError {
    LogError::new(ErrorCode::Closed, "the log is closed")
}
