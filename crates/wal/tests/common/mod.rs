//! Files that fail on demand, and the means to wait for appends.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod broken_files;
pub mod crash_explorer;
pub mod crash_images;
pub mod crash_ledger;
pub mod crash_workloads;
pub mod crash_world;
pub mod random;
pub mod sim_disk;
pub mod sim_files;

use phxqueue_wal::engine::{Event, Log, Options, Record};
use phxqueue_wal::error::{LogError, Result};
use phxqueue_wal::files::{Folder, LogFile, LogFiles, RealFiles};
use phxqueue_wal::format::{KIND_ENTRY, KIND_STATE};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A folder that goes with the test; the log's own folder is in it.
pub struct TemporaryFolder {
    root: PathBuf,
    log: PathBuf,
}

impl TemporaryFolder {
    pub fn path(&self) -> &Path {
        &self.log
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

pub fn folder() -> TemporaryFolder {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("phxqueue-wal-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let root = std::env::temp_dir().join(name);
    std::fs::create_dir(&root).unwrap();
    TemporaryFolder { log: root.join("log"), root }
}

pub fn options(folder: &Path) -> Options {
    Options { folder: folder.to_path_buf(), identity: [0xa5; 16], segment_bytes: 8192, sync: true }
}

/// Opens a log whose appends can be waited for.
pub fn open(options: Options, files: Arc<dyn LogFiles>) -> (Result<Log>, Waiter) {
    let waiter = Waiter::default();
    let told = waiter.clone();
    let committed = Box::new(move |event: &Event| {
        let mut outcome = told.outcome.0.lock().unwrap();
        outcome.appends += u64::from(event.appends);
        outcome.settled += u64::from(event.settled);
        outcome.low_on_space = event.low_on_space.unwrap_or(outcome.low_on_space);
        if event.failure.is_some() {
            outcome.failure.clone_from(&event.failure);
        }
        told.outcome.1.notify_all();
    });
    (Log::open(options, files, committed), waiter)
}

#[derive(Default)]
struct Outcome {
    appends: u64,
    settled: u64,
    low_on_space: bool,
    failure: Option<LogError>,
}

#[derive(Clone, Default)]
pub struct Waiter {
    outcome: Arc<(Mutex<Outcome>, Condvar)>,
}

impl Waiter {
    /// Appends and waits until it is durable; no other append is under way.
    pub fn append(&self, log: &Log, records: &[Record]) -> Result<()> {
        let before = self.outcome.0.lock().unwrap().appends;
        log.append(records)?;
        self.wait_for(before + 1)
    }

    /// Waits for the end of `appends` appends since the opening.
    pub fn wait_for(&self, appends: u64) -> Result<()> {
        let (outcome, changed) = &*self.outcome;
        let pending = |outcome: &mut Outcome| outcome.appends < appends && outcome.failure.is_none();
        let outcome = changed.wait_while(outcome.lock().unwrap(), pending).unwrap();
        outcome.failure.clone().map_or(Ok(()), Err)
    }
}

impl Waiter {
    /// Waits until the log has nothing to do; no other call is under way.
    pub fn settle(&self, log: &Log) {
        let (outcome, changed) = &*self.outcome;
        let before = outcome.lock().unwrap().settled;
        log.settle();
        drop(changed.wait_while(outcome.lock().unwrap(), |outcome| outcome.settled == before).unwrap());
    }

    pub fn low_on_space(&self) -> bool {
        self.outcome.0.lock().unwrap().low_on_space
    }

    pub fn wait_for_space(&self) {
        let (outcome, changed) = &*self.outcome;
        drop(changed.wait_while(outcome.lock().unwrap(), |outcome| outcome.low_on_space).unwrap());
    }
}

pub fn body(instance: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u64 + 31 * instance) as u8).collect()
}

pub fn entry<'a>(group: u32, instance: u64, body: &'a [&'a [u8]]) -> Record<'a> {
    Record { kind: KIND_ENTRY, group, instance, body }
}

pub fn state<'a>(group: u32, slot: u64, body: &'a [&'a [u8]]) -> Record<'a> {
    Record { kind: KIND_STATE, group, instance: slot, body }
}

/// Shared by the files of a folder: counts calls, fails one of them.
#[derive(Default)]
struct Switch {
    calls: u64,
    /// Name of the call that fails, and how many of these come before.
    failing: Option<(&'static str, u64)>,
    failed: bool,
    /// No file can be made.
    full: bool,
    /// What was asked, in order.
    log: Vec<String>,
    /// Bytes that reads asked for.
    read_bytes: usize,
    /// Files that are open, and how many of them there may be.
    open: usize,
    open_max: Option<usize>,
}

#[derive(Clone, Default)]
pub struct Faults {
    switch: Arc<Mutex<Switch>>,
}

impl Faults {
    pub fn none() -> Faults {
        Faults::default()
    }

    pub fn fail_on(&self, call: &'static str, after: u64) {
        self.switch.lock().unwrap().failing = Some((call, after));
    }

    /// While `full`, no file can be made, like on a full disk; those that are there can be written over.
    pub fn set_full(&self, full: bool) {
        self.switch.lock().unwrap().full = full;
    }

    /// What was asked since the last call of this.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.switch.lock().unwrap().log)
    }

    pub fn calls(&self) -> u64 {
        self.switch.lock().unwrap().calls
    }

    pub fn has_failed(&self) -> bool {
        self.switch.lock().unwrap().failed
    }

    /// How many files may be open at once; no limit where None.
    pub fn set_open_max(&self, open_max: Option<usize>) {
        self.switch.lock().unwrap().open_max = open_max;
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.switch.lock().unwrap().open
    }

    fn check_descriptors(&self) -> io::Result<()> {
        let switch = self.switch.lock().unwrap();
        let lacks = switch.open_max.is_some_and(|open_max| switch.open >= open_max);
        if lacks { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) }
    }

    /// Bytes that reads asked for since the last call of this.
    pub fn take_read_bytes(&self) -> usize {
        std::mem::take(&mut self.switch.lock().unwrap().read_bytes)
    }

    fn note(&self, call: &str, path: &Path) -> io::Result<()> {
        let mut switch = self.switch.lock().unwrap();
        switch.calls += 1;
        switch.log.push(format!("{call} {}", path.file_name().unwrap().to_string_lossy()));
        match switch.failing {
            Some((failing, 0)) if failing == call => {
                switch.failing = None;
                switch.failed = true;
                Err(io::Error::other(format!("EIO: {call}")))
            }
            Some((failing, after)) if failing == call => {
                switch.failing = Some((failing, after - 1));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn noted(&self, file: Arc<dyn LogFile>, path: &Path) -> Arc<dyn LogFile> {
        self.switch.lock().unwrap().open += 1;
        Arc::new(FaultyFile { file, path: path.to_path_buf(), faults: self.clone() })
    }
}

impl LogFiles for Faults {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        RealFiles.make_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealFiles.list(folder)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.check_descriptors()?;
        Ok(self.noted(RealFiles.open(path)?, path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.note("create", path)?;
        if self.switch.lock().unwrap().full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.check_descriptors()?;
        Ok(self.noted(RealFiles.create(path)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", to)?;
        RealFiles.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.note("unlink", path)?;
        RealFiles.unlink(path)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        self.note("sync_folder", folder.path())?;
        RealFiles.sync_folder(folder)
    }
}

struct FaultyFile {
    file: Arc<dyn LogFile>,
    path: PathBuf,
    faults: Faults,
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.faults.switch.lock().unwrap().open -= 1;
    }
}

impl LogFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        self.faults.switch.lock().unwrap().read_bytes += target.len();
        self.file.read(target, position)
    }

    fn read_cached(&self, target: &mut [u8], position: u64) -> Option<()> {
        self.file.read_cached(target, position)
    }

    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.faults.note("write", &self.path)?;
        self.file.write(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.note("sync", &self.path)?;
        self.file.sync()
    }
}
