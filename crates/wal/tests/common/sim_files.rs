//! The files of a simulated disk as one process sees them: each call may take its time, can be made to fail, and is a
//! moment at which the world may stop. What a crash leaves is well defined, whichever thread makes the call: disk and
//! ledger are under one mutex, so that a call is a point of one order, and a copy of both is what a stop at that point
//! leaves.

use super::crash_ledger::{Ledger, Violation};
use super::random::Random;
use super::sim_disk::{InodeId, SimDisk};
use phxqueue_wal::error::LogError;
use phxqueue_wal::files::{Folder, LogFile, LogFiles};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    List,
    Open,
    Read,
    Create,
    Write,
    Sync,
    Rename,
    Unlink,
    SyncFolder,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub kind: CallKind,
    /// What the file is called at the time, empty for the folder and for a file that was removed.
    pub name: String,
}

impl Call {
    /// The kind, and the name without its number.
    pub fn what(&self) -> String {
        format!("{:?} {}", self.kind, self.name.trim_start_matches(|digit: char| digit.is_ascii_digit()))
    }
}

/// A moment at which the power may fail.
#[derive(Clone)]
pub struct CrashPoint {
    /// Number of the call in its workload.
    pub number: u64,
    pub what: String,
    pub disk: SimDisk,
    pub ledger: Ledger,
}

/// How one call fails.
#[derive(Clone, Copy)]
pub struct Fault {
    pub kind: CallKind,
    pub error: io::ErrorKind,
    /// So many calls of the kind come before.
    pub after: u64,
    /// Bytes of a write that get there.
    pub bytes_written: usize,
}

/// When the world stops by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    Never,
    /// At the so many-th call from now.
    After(u64),
    /// At the first such call.
    At(&'static str),
}

/// Disk and ledger, and what is told of the process that is alive.
pub struct Scene {
    pub disk: SimDisk,
    pub ledger: Ledger,
    /// Rises when the process dies: no call of a former one has an effect, and nobody hears what it says.
    pub life: u64,
    pub settled: u64,
    pub low_on_space: bool,
    pub was_low_on_space: bool,
    pub failure: Option<LogError>,
    /// Groups that this process has truncated, and below what.
    pub truncated: BTreeMap<u32, u64>,
    pub violation: Option<Violation>,
    /// Calls of the file layer that change something.
    pub calls: u64,
    pub called: BTreeSet<String>,
    /// Moments that differ in what a crash may leave or must not lose. None if nobody wants them.
    pub points: Option<Vec<CrashPoint>>,
    pub fault: Option<Fault>,
    /// The call that met the fault.
    pub hit: Option<Call>,
    pub freeze: Freeze,
    /// Whether calls take their time, so that the threads get past each other.
    pub varied: bool,
    random: Random,
    seen: (u64, usize, usize),
}

impl Scene {
    pub fn look(&mut self, call: &Call) {
        self.calls += 1;
        self.called.insert(call.what());
        let seen = (self.disk.version, self.ledger.durable, self.ledger.truncations());
        if let Some(points) = self.points.as_mut().filter(|_| seen != self.seen) {
            self.seen = seen;
            let what = format!("{:?} {}", call.kind, call.name);
            points.push(CrashPoint { number: self.calls, what, disk: self.disk.clone(), ledger: self.ledger.clone() });
        }
        let freezes = match &mut self.freeze {
            Freeze::Never => false,
            Freeze::At(what) => call.what() == *what,
            Freeze::After(calls) => {
                *calls -= 1;
                *calls == 0
            }
        };
        if freezes {
            self.life += 1;
            self.freeze = Freeze::Never;
        }
    }

    fn fault_of(&mut self, call: &Call) -> Option<Fault> {
        let fault = self.fault.as_mut().filter(|fault| fault.kind == call.kind)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        self.hit = Some(call.clone());
        self.fault.take()
    }
}

pub struct Stage {
    scene: Mutex<Scene>,
    pub changed: Condvar,
}

impl Stage {
    pub fn new(disk: SimDisk, ledger: Ledger, seed: u64, varied: bool) -> Stage {
        let scene = Scene {
            disk,
            ledger,
            life: 0,
            settled: 0,
            low_on_space: false,
            was_low_on_space: false,
            failure: None,
            truncated: BTreeMap::new(),
            violation: None,
            calls: 0,
            called: BTreeSet::new(),
            points: None,
            fault: None,
            hit: None,
            freeze: Freeze::Never,
            varied,
            random: Random::new(seed),
            seen: (u64::MAX, 0, 0),
        };
        Stage { scene: Mutex::new(scene), changed: Condvar::new() }
    }

    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().expect("no thread panics with the scene")
    }
}

/// The files as the process of one life sees them.
#[derive(Clone)]
pub struct SimFiles {
    stage: Arc<Stage>,
    life: u64,
}

impl SimFiles {
    pub fn new(stage: &Arc<Stage>) -> SimFiles {
        SimFiles { life: stage.scene().life, stage: Arc::clone(stage) }
    }

    /// The time that a call takes before and behind its effect, without the mutex.
    fn take_time(&self) {
        let mut scene = self.stage.scene();
        if !scene.varied {
            return;
        }
        let (way, extent) = (scene.random.below(10), scene.random.below(4) as u32);
        drop(scene);
        match way {
            0..4 => {}
            4..8 => (0..extent).for_each(|_| std::thread::yield_now()),
            _ => std::thread::sleep(Duration::from_micros(20) * 3u32.pow(extent)),
        }
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Scene>> {
        let scene = self.stage.scene();
        if scene.life == self.life { Ok(scene) } else { Err(io::Error::other("the world stands still")) }
    }

    /// A call that has its effect at one moment, or fails.
    fn call<T>(&self, kind: CallKind, name: &str, effect: impl FnOnce(&mut SimDisk) -> io::Result<T>) -> io::Result<T> {
        self.take_time();
        let mut scene = self.alive()?;
        let call = Call { kind, name: name.into() };
        if let Some(fault) = scene.fault_of(&call) {
            return Err(io::Error::from(fault.error));
        }
        let result = effect(&mut scene.disk)?;
        if kind > CallKind::Read {
            self.look(scene, &call);
            self.take_time();
            drop(self.alive()?);
        }
        Ok(result)
    }

    fn look(&self, mut scene: MutexGuard<'_, Scene>, call: &Call) {
        scene.look(call);
        self.stage.changed.notify_all();
    }

    fn file(&self, inode: InodeId) -> Arc<dyn LogFile> {
        Arc::new(SimFile { files: self.clone(), inode })
    }
}

pub fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("files have names")
}

impl LogFiles for SimFiles {
    fn make_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _folder: &Path) -> io::Result<Vec<String>> {
        self.call(CallKind::List, "", |disk| Ok(disk.list()))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let name = name_of(path);
        self.call(CallKind::Open, name, |disk| disk.find(name)).map(|inode| self.file(inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let name = name_of(path);
        self.call(CallKind::Create, name, |disk| disk.create(name)).map(|inode| self.file(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(CallKind::Rename, name_of(from), |disk| disk.rename(name_of(from), name_of(to)))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call(CallKind::Unlink, name_of(path), |disk| disk.unlink(name_of(path)))
    }

    fn sync_folder(&self, _folder: &Folder) -> io::Result<()> {
        let covered = self.call(CallKind::SyncFolder, "", |disk| Ok(disk.begin_sync_folder()))?;
        self.alive()?.disk.settle_folder(&covered);
        Ok(())
    }
}

struct SimFile {
    files: SimFiles,
    inode: InodeId,
}

impl SimFile {
    fn call_of(&self, scene: &Scene, kind: CallKind) -> Call {
        Call { kind, name: scene.disk.name_of(self.inode) }
    }
}

impl LogFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.files.alive()?.disk.size(self.inode))
    }

    fn read(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        let name = self.files.alive()?.disk.name_of(self.inode);
        self.files.call(CallKind::Read, &name, |disk| Ok(disk.read(self.inode, target, position as usize)))
    }

    fn read_cached(&self, _target: &mut [u8], _position: u64) -> Option<()> {
        None
    }

    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.files.take_time();
        let mut scene = self.files.alive()?;
        let call = self.call_of(&scene, CallKind::Write);
        let fault = scene.fault_of(&call);
        let written = fault.map_or(bytes, |fault| &bytes[..fault.bytes_written.min(bytes.len())]);
        if !written.is_empty() {
            scene.disk.write(self.inode, written, position as usize);
        }
        self.files.look(scene, &call);
        self.files.take_time();
        drop(self.files.alive()?);
        fault.map_or(Ok(()), |fault| Err(io::Error::from(fault.error)))
    }

    fn sync(&self) -> io::Result<()> {
        self.files.take_time();
        let mut scene = self.files.alive()?;
        let call = self.call_of(&scene, CallKind::Sync);
        let fault = scene.fault_of(&call);
        let covered = scene.disk.begin_sync(self.inode);
        self.files.look(scene, &call);
        self.files.take_time();
        let mut scene = self.files.alive()?;
        match fault {
            None => scene.disk.settle(self.inode, &covered),
            Some(_) => scene.disk.doom(self.inode, &covered),
        }
        fault.map_or(Ok(()), |fault| Err(io::Error::from(fault.error)))
    }
}
