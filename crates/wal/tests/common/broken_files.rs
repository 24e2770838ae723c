//! Mistakes of a file layer, or of an engine in its order of calls, put between the engine and a simulated disk: an
//! exploration of crashes that does not find them proves nothing about the engine that it passes.

use super::sim_files::name_of;
use phxqueue_wal::files::{Folder, LogFile, LogFiles};
use phxqueue_wal::marks::MARKS_NAME;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    SyncDoesNothing,
    FolderSyncDoesNothing,
    ReportedBeforeTheSync,
    MarksAfterTheRemovalOfSegments,
    SpareTakenWithoutAFolderSync,
    SpareTakenWithoutASync,
    MarksWithoutASync,
    RecoveryWithoutASync,
    /// In the process that comes after the crash; all others are in the one before.
    TornTailIsNotWiped,
}

impl Mistake {
    pub const ALL: [Mistake; 9] = [
        Mistake::SyncDoesNothing,
        Mistake::FolderSyncDoesNothing,
        Mistake::ReportedBeforeTheSync,
        Mistake::MarksAfterTheRemovalOfSegments,
        Mistake::SpareTakenWithoutAFolderSync,
        Mistake::SpareTakenWithoutASync,
        Mistake::MarksWithoutASync,
        Mistake::RecoveryWithoutASync,
        Mistake::TornTailIsNotWiped,
    ];
}

/// A call that is made later than it was asked for.
type Held = Box<dyn FnOnce() -> io::Result<()> + Send>;

struct Broken {
    mistake: Mistake,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    held: Vec<Held>,
    /// The last rename made a spare a segment.
    spare_taken: bool,
    /// Writes of marks that a recovery has still to do.
    marks_to_come: u32,
    /// Names that open files go by now: a handle outlives a rename.
    handles: Vec<Arc<Mutex<String>>>,
}

impl Broken {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panic")
    }

    fn hold(&self, call: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        self.memory().held.push(Box::new(call));
        Ok(())
    }

    fn make_held_calls(&self) -> io::Result<()> {
        let held = std::mem::take(&mut self.memory().held);
        held.into_iter().try_for_each(|call| call())
    }

    /// Before each call that changes something.
    fn begin(&self) -> io::Result<()> {
        if self.mistake == Mistake::ReportedBeforeTheSync { self.make_held_calls() } else { Ok(()) }
    }
}

pub struct BrokenFiles {
    files: Arc<dyn LogFiles>,
    broken: Arc<Broken>,
}

impl BrokenFiles {
    pub fn wrap(files: Arc<dyn LogFiles>, mistake: Mistake) -> Arc<dyn LogFiles> {
        Arc::new(BrokenFiles { files, broken: Arc::new(Broken { mistake, memory: Mutex::default() }) })
    }

    fn file(&self, path: &Path, file: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        let name = Arc::new(Mutex::new(name_of(path).to_owned()));
        self.broken.memory().handles.push(Arc::clone(&name));
        Arc::new(BrokenFile { file, name, broken: Arc::clone(&self.broken) })
    }
}

impl LogFiles for BrokenFiles {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.files.make_folder(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = self.files.list(folder)?;
        // It writes the copy that it has found again, and one at its end.
        self.broken.memory().marks_to_come = if names.iter().any(|name| name == MARKS_NAME) { 2 } else { 1 };
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(self.file(path, self.files.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.broken.begin()?;
        Ok(self.file(path, self.files.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.broken.begin()?;
        self.files.rename(from, to)?;
        let mut memory = self.broken.memory();
        memory.spare_taken = name_of(from).ends_with(".seg.new") && name_of(to).ends_with(".seg");
        for handle in &memory.handles {
            let mut name = handle.lock().expect("no panic");
            if *name == name_of(from) {
                *name = name_of(to).to_owned();
            }
        }
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.broken.begin()?;
        self.files.unlink(path)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        self.broken.begin()?;
        let spare_taken = std::mem::take(&mut self.broken.memory().spare_taken);
        match self.broken.mistake {
            Mistake::FolderSyncDoesNothing => return Ok(()),
            Mistake::SpareTakenWithoutAFolderSync if spare_taken => return Ok(()),
            _ => {}
        }
        self.files.sync_folder(folder)?;
        self.broken.make_held_calls()
    }
}

struct BrokenFile {
    file: Arc<dyn LogFile>,
    name: Arc<Mutex<String>>,
    broken: Arc<Broken>,
}

impl BrokenFile {
    fn name(&self) -> String {
        self.name.lock().expect("no panic").clone()
    }
}

impl LogFile for BrokenFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read(target, position)
    }

    fn read_cached(&self, target: &mut [u8], position: u64) -> Option<()> {
        self.file.read_cached(target, position)
    }

    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.broken.begin()?;
        let (name, file) = (self.name(), Arc::clone(&self.file));
        match self.broken.mistake {
            Mistake::MarksAfterTheRemovalOfSegments if name == MARKS_NAME => {
                let bytes = bytes.to_vec();
                self.broken.hold(move || file.write(&bytes, position))
            }
            Mistake::TornTailIsNotWiped if name.ends_with(".seg") && bytes.iter().all(|byte| *byte == 0) => Ok(()),
            _ => file.write(bytes, position),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.broken.begin()?;
        let (name, file) = (self.name(), Arc::clone(&self.file));
        let is_segment = name.ends_with(".seg");
        if name == MARKS_NAME {
            let mut memory = self.broken.memory();
            memory.marks_to_come = memory.marks_to_come.saturating_sub(1);
        }
        match self.broken.mistake {
            Mistake::SyncDoesNothing => Ok(()),
            Mistake::ReportedBeforeTheSync if is_segment => self.broken.hold(move || file.sync()),
            Mistake::MarksAfterTheRemovalOfSegments if name == MARKS_NAME => self.broken.hold(move || file.sync()),
            Mistake::SpareTakenWithoutASync if name.ends_with(".seg.new") => Ok(()),
            Mistake::MarksWithoutASync if name == MARKS_NAME => Ok(()),
            Mistake::RecoveryWithoutASync if is_segment && self.broken.memory().marks_to_come > 0 => Ok(()),
            _ => file.sync(),
        }
    }
}
