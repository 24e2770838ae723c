//! Reads segment files on a thread of its own, a little ahead of the one that goes through them, into buffers that are
//! used again and again.

use crate::files::{LogFile, LogFiles};
use crate::format::segment_name;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Segments in memory at once: one is read, one waits, one is gone through.
const BUFFERS: usize = 3;

/// A segment file and its bytes.
pub(crate) struct ReadSegment {
    pub id: u32,
    pub file: Arc<dyn LogFile>,
    pub bytes: Vec<u8>,
}

/// The segments that are still to come, in order.
pub(crate) struct SegmentsAhead {
    read: Receiver<io::Result<ReadSegment>>,
    /// None when no more buffers are needed.
    buffers: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl SegmentsAhead {
    /// Begins to read the segments with these ids.
    pub fn start(files: &Arc<dyn LogFiles>, folder: &Path, ids: &[u32]) -> io::Result<SegmentsAhead> {
        let (give, buffers) = channel();
        let (deliver, read) = channel();
        for _ in 0..BUFFERS.min(ids.len()) {
            // The other end is in this function.
            let _ = give.send(Vec::new());
        }
        let (files, folder, ids) = (Arc::clone(files), folder.to_path_buf(), ids.to_vec());
        let run = move || read_all(files.as_ref(), &folder, &ids, &buffers, &deliver);
        let thread = std::thread::Builder::new().name("wal-read-ahead".into()).spawn(run)?;
        Ok(SegmentsAhead { read, buffers: Some(give), thread: Some(thread) })
    }

    /// The next segment, or None behind the last one. No other follows an error.
    pub fn next(&mut self) -> Option<io::Result<ReadSegment>> {
        self.read.recv().ok()
    }

    /// Lets the buffer be used again.
    pub fn give_back(&self, bytes: Vec<u8>) {
        if let Some(buffers) = &self.buffers {
            // The reading thread has ended if it has read all: then nobody needs it.
            let _ = buffers.send(bytes);
        }
    }
}

impl Drop for SegmentsAhead {
    fn drop(&mut self) {
        self.buffers = None;
        // A panic of the thread has ended the process, or the test, already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_all(
    files: &dyn LogFiles,
    folder: &Path,
    ids: &[u32],
    buffers: &Receiver<Vec<u8>>,
    deliver: &Sender<io::Result<ReadSegment>>,
) {
    for id in ids {
        let Ok(buffer) = buffers.recv() else { return };
        let read = read_segment(files, folder.join(segment_name(*id)), *id, buffer);
        let failed = read.is_err();
        if deliver.send(read).is_err() || failed {
            return;
        }
    }
}

fn read_segment(files: &dyn LogFiles, path: PathBuf, id: u32, mut bytes: Vec<u8>) -> io::Result<ReadSegment> {
    let file = files.open(&path)?;
    let size_bytes = file.size()? as usize;
    bytes.resize(size_bytes, 0);
    let filled = file.read(&mut bytes, 0)?;
    // It is being cut by somebody else: what is gone counts as gone.
    bytes.truncate(filled);
    Ok(ReadSegment { id, file, bytes })
}
