//! The files of segments. The log may have more of them than a process may have descriptors: those that nobody has read
//! for the longest time are closed, and opened again when they are read.

use crate::error::is_lack_of_descriptors;
use crate::files::{LogFile, LogFiles};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// So many sealed segments are open at once.
const SEALED_OPEN_MAX: usize = 256;

/// The file of a segment.
pub(crate) struct SegmentFile {
    path: PathBuf,
    open_files: Arc<OpenFiles>,
    handle: Mutex<Handle>,
    /// When it was used last, by the count of `OpenFiles`.
    used: AtomicU64,
}

struct Handle {
    file: Option<Arc<dyn LogFile>>,
    /// It is not closed: it is written to, or its name is about to go.
    held: bool,
}

/// The files that may be closed.
pub(crate) struct OpenFiles {
    files: Arc<dyn LogFiles>,
    uses: AtomicU64,
    open: Mutex<Vec<Weak<SegmentFile>>>,
}

impl OpenFiles {
    pub fn new(files: Arc<dyn LogFiles>) -> Arc<OpenFiles> {
        Arc::new(OpenFiles { files, uses: AtomicU64::new(0), open: Mutex::default() })
    }

    /// Takes an open file; it stays open until it is released.
    pub fn hold(self: &Arc<Self>, path: PathBuf, file: Arc<dyn LogFile>) -> Arc<SegmentFile> {
        let handle = Mutex::new(Handle { file: Some(file), held: true });
        Arc::new(SegmentFile { path, open_files: Arc::clone(self), handle, used: AtomicU64::new(self.next_use()) })
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    fn add(&self, file: &Arc<SegmentFile>) {
        lock(&self.open).push(Arc::downgrade(file));
        self.close_all_but(SEALED_OPEN_MAX);
    }

    /// Closes those that were not used for the longest time.
    fn close_all_but(&self, kept: usize) {
        let mut open = lock(&self.open);
        if open.len() <= kept {
            return;
        }
        let mut living: Vec<Arc<SegmentFile>> = open.iter().filter_map(Weak::upgrade).collect();
        // Others use them meanwhile: each is asked once.
        living.sort_by_cached_key(|file| file.used.load(Ordering::Relaxed));
        let closed: Vec<Arc<SegmentFile>> = living.drain(..living.len().saturating_sub(kept)).collect();
        *open = living.iter().map(Arc::downgrade).collect();
        drop(open);
        for file in closed {
            let mut handle = lock(&file.handle);
            if !handle.held {
                handle.file = None;
            }
        }
    }
}

impl SegmentFile {
    /// The file, which stays open as long as the caller has it. It is opened if it is closed.
    pub fn open(self: &Arc<Self>) -> io::Result<Arc<dyn LogFile>> {
        if let Some(file) = self.if_open() {
            return Ok(file);
        }
        // Without its mutex: others may be closed for it.
        let opened = self.open_anew()?;
        let mut handle = lock(&self.handle);
        if let Some(file) = &handle.file {
            return Ok(Arc::clone(file));
        }
        handle.file = Some(Arc::clone(&opened));
        let held = handle.held;
        drop(handle);
        if !held {
            self.open_files.add(self);
        }
        Ok(opened)
    }

    /// The file if it is open.
    pub fn if_open(&self) -> Option<Arc<dyn LogFile>> {
        self.used.store(self.open_files.next_use(), Ordering::Relaxed);
        lock(&self.handle).file.clone()
    }

    /// Opens it and keeps it open: whoever reads it does not depend on its name any more.
    pub fn hold(self: &Arc<Self>) -> io::Result<()> {
        let opened = self.open()?;
        let mut handle = lock(&self.handle);
        handle.file.get_or_insert(opened);
        handle.held = true;
        Ok(())
    }

    /// From now on it is only read: it may be closed.
    pub fn release(self: &Arc<Self>) {
        lock(&self.handle).held = false;
        self.open_files.add(self);
    }

    fn open_anew(&self) -> io::Result<Arc<dyn LogFile>> {
        let OpenFiles { files, .. } = self.open_files.as_ref();
        match files.open(&self.path) {
            Err(error) if is_lack_of_descriptors(&error) => {
                self.open_files.close_all_but(SEALED_OPEN_MAX / 4);
                files.open(&self.path)
            }
            opened => opened,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
