//! The thread that writes: batch after batch, each with one write and one sync.

use crate::engine::Event;
use crate::error::{ErrorCode, LogError, Result};
use crate::files::LogFile;
use crate::format::segment_name;
use crate::marks::LogPosition;
use crate::queue::{Batch, Chain};
use crate::shared::{InWork, Shared, State, poisoned};
use std::io;
use std::sync::{Arc, MutexGuard};

pub(crate) struct Writer {
    shared: Arc<Shared>,
    chain: Chain,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, chain: Chain) -> Self {
        Writer { shared, chain }
    }

    /// Writes until the log is closed and nothing waits, or until something fails.
    pub fn run(mut self) {
        loop {
            let state = self.shared.state();
            let Some((batch, state)) = self.next(state) else { break };
            drop(state);
            if let Err(failure) = self.commit(batch) {
                self.shared.fail(failure);
            }
        }
        let mut state = self.shared.state();
        state.writer_ended = true;
        state.in_work = InWork::None;
        while state.queue.take().is_some() {}
        if let Some(failure) = state.failure.clone() {
            (self.shared.committed)(&Event { failure: Some(failure), ..Event::default() });
        }
        self.shared.tell_settled(&mut state);
        self.shared.keeper_wake.notify_one();
    }

    /// Waits for a batch. None at the end.
    fn next<'a>(&self, mut state: MutexGuard<'a, State>) -> Option<(Batch, MutexGuard<'a, State>)> {
        state.in_work = InWork::None;
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(batch) = state.queue.take() {
                state.in_work = if batch.bytes.is_empty() { InWork::Reporting } else { InWork::Sealing };
                return Some((batch, state));
            }
            if state.closing {
                return None;
            }
            self.shared.tell_settled(&mut state);
            state = self.shared.wait(&self.shared.writer_wake, state);
        }
    }

    /// Writes and syncs a batch, makes it visible and reports it.
    fn commit(&mut self, mut batch: Batch) -> Result<()> {
        let appends = batch.appends;
        if !batch.bytes.is_empty() {
            self.chain.seal(&mut batch);
            let batch = Arc::new(batch);
            // Before the wait for a spare, which the keeper makes: it may wait to see the records.
            self.show_work(&batch);
            let file = self.segment(batch.segment)?;
            self.write(file.as_ref(), &batch).map_err(|error| poisoned(&error))?;
            self.finish(batch)?;
        }
        if appends > 0 {
            (self.shared.committed)(&Event { appends, ..Event::default() });
        }
        Ok(())
    }

    fn show_work(&self, batch: &Arc<Batch>) {
        self.shared.state().in_work = InWork::Writing(Arc::clone(batch));
        self.shared.keeper_wake.notify_one();
    }

    fn write(&self, file: &dyn LogFile, batch: &Batch) -> io::Result<()> {
        file.write(&batch.bytes, batch.start)?;
        if self.shared.options.sync { file.sync() } else { Ok(()) }
    }

    fn finish(&self, batch: Arc<Batch>) -> Result<()> {
        let mut state = self.shared.state();
        state.syncs += u64::from(self.shared.options.sync);
        state.in_work = InWork::Reporting;
        // The keeper may have failed meanwhile: then nothing is reported durable any more.
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let end = batch.start + batch.bytes.len() as u64;
        state.written = LogPosition { segment: batch.segment, offset: end as u32 };
        if self.shared.options.sync {
            state.durable = state.written;
        }
        state.index(&batch);
        state.keeper.copying &= !batch.ends_copies;
        if let Some(batch) = Arc::into_inner(batch) {
            state.queue.recycle(batch.bytes);
        }
        self.shared.wake_keeper(&mut state);
        Ok(())
    }

    /// File of the segment to write to. If it is a new one, the log goes on in the spare, which the keeper has prepared
    /// or is preparing.
    fn segment(&self, id: u32) -> Result<Arc<dyn LogFile>> {
        let mut state = self.shared.state();
        if id == state.active {
            let Some(file) = state.contents.segments.get(id).file.if_open() else {
                panic!("the newest segment is open")
            };
            return Ok(file);
        }
        let file = loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if let Some(spare) = state.spares.spare.as_ref().filter(|spare| spare.id == id) {
                break Arc::clone(&spare.file);
            }
            if state.closing && state.low_on_space {
                let message = "the log was closed before there was space for what waited";
                return Err(LogError::new(ErrorCode::Full, message));
            }
            state.starving = true;
            // `low_on_space` settles a log whose writer waits here.
            self.shared.tell_settled(&mut state);
            state = self.shared.wait(&self.shared.writer_wake, state);
        };
        state.starving = false;
        drop(state);
        self.shared
            .sync_written()
            .and_then(|()| self.shared.spare_work().take(id))
            .map_err(|error| poisoned(&error))?;
        let mut state = self.shared.state();
        state.spares.spare = None;
        // From now on it is only read.
        state.contents.segments.get(state.active).file.release();
        let held = self.shared.open_files.hold(self.shared.folder.path().join(segment_name(id)), Arc::clone(&file));
        state.contents.segments.add(id, held, u64::from(self.shared.options.segment_bytes));
        state.active = id;
        self.shared.wake_keeper(&mut state);
        Ok(file)
    }
}
