//! A log on a simulated disk and what was asked of it: workloads act on it, and each call of the file layer is a
//! moment at which the power may fail.

use super::broken_files::{BrokenFiles, Mistake};
use super::crash_ledger::{Ledger, Violation, Written};
use super::sim_disk::SimDisk;
use super::sim_files::{Call, CallKind, Freeze, Scene, SimFiles, Stage};
use super::{TemporaryFolder, folder};
use phxqueue_wal::engine::{Event, Log, Options, Record};
use phxqueue_wal::error::LogError;
use phxqueue_wal::files::LogFiles;
use phxqueue_wal::format::{KIND_ENTRY, KIND_STATE};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// What takes longer than this never happens.
const HANG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub struct WorldOptions {
    pub segment_bytes: u32,
    pub seed: u64,
    /// Whether calls of the file layer take their time.
    pub varied: bool,
    pub mistake: Option<Mistake>,
}

/// A record without its body, which tells append and key, and its length.
#[derive(Clone, Copy)]
pub struct Wanted {
    kind: u8,
    group: u32,
    instance: u64,
    bytes: usize,
}

pub fn want_entry(group: u32, instance: u64, bytes: usize) -> Wanted {
    Wanted { kind: KIND_ENTRY, group, instance, bytes }
}

pub fn want_state(group: u32, slot: u64, bytes: usize) -> Wanted {
    Wanted { kind: KIND_STATE, group, instance: slot, bytes }
}

/// The lock of a log is a matter of the machine: a folder for it, used by one world after the other.
pub struct LockFolder(TemporaryFolder);

impl LockFolder {
    pub fn new() -> LockFolder {
        let temporary = folder();
        std::fs::create_dir(temporary.path()).unwrap();
        LockFolder(temporary)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }
}

pub struct World<'a> {
    pub stage: Arc<Stage>,
    options: WorldOptions,
    folder: &'a LockFolder,
    log: Option<Log>,
    life: u64,
}

impl<'a> World<'a> {
    pub fn new(disk: SimDisk, ledger: Ledger, options: WorldOptions, folder: &'a LockFolder) -> World<'a> {
        let stage = Arc::new(Stage::new(disk, ledger, options.seed, options.varied));
        World { stage, options, folder, log: None, life: 0 }
    }

    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        self.stage.scene()
    }

    pub fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is open")
    }

    pub fn seed(&self) -> u64 {
        self.options.seed
    }

    pub fn is_open(&self) -> bool {
        self.log.is_some()
    }

    /// Opens the log as a new process and checks what it holds.
    pub fn open(&mut self) -> Result<(), Violation> {
        self.try_open().map_err(|error| error.to_string())?;
        let ledger = self.scene().ledger.clone();
        let held = ledger.check(self.log())?;
        self.scene().ledger.reopened(held);
        Ok(())
    }

    /// The same without a check.
    pub fn try_open(&mut self) -> Result<(), LogError> {
        let files: Arc<dyn LogFiles> = Arc::new(SimFiles::new(&self.stage));
        let files = match self.options.mistake {
            Some(mistake) => BrokenFiles::wrap(files, mistake),
            None => files,
        };
        let stage = Arc::clone(&self.stage);
        let mut scene = stage.scene();
        self.life = scene.life;
        (scene.settled, scene.low_on_space, scene.failure) = (0, false, None);
        scene.truncated.clear();
        drop(scene);
        let life = self.life;
        let committed = Box::new(move |event: &Event| listen(&stage, life, event));
        let options = Options {
            folder: self.folder.path(),
            identity: [0xa5; 16],
            segment_bytes: self.options.segment_bytes,
            sync: true,
        };
        self.log = Some(Log::open(options, files, committed)?);
        Ok(())
    }

    /// Reads everything and checks it.
    pub fn check(&self) -> Result<(), Violation> {
        let ledger = self.scene().ledger.clone();
        ledger.check(self.log()).map(drop)
    }

    /// Appends without waiting; returns the number to wait for.
    pub fn begin_append(&self, wanted: &[Wanted]) -> Result<usize, LogError> {
        let mut scene = self.scene();
        let serial = scene.ledger.next_serial();
        let written: Vec<Written> = wanted.iter().map(|each| written(serial, each)).collect();
        // Before the log has it: nobody may find what was not asked for yet.
        let number = scene.ledger.append(written.clone());
        drop(scene);
        let bodies: Vec<[&[u8]; 1]> = written.iter().map(|each| [each.body.as_slice()]).collect();
        let record =
            |(each, body): (&Written, _)| Record { kind: each.kind, group: each.group, instance: each.instance, body };
        let records: Vec<Record> = written.iter().zip(bodies.iter().map(|body| body.as_slice())).map(record).collect();
        // Both ways in.
        let accepted = serial.is_multiple_of(2);
        let taken = if accepted {
            self.log().append_accepted(std::iter::once(records.as_slice()))
        } else {
            self.log().append(&records)
        };
        if taken.is_err() {
            self.scene().ledger.refused();
        }
        taken.map(|()| number)
    }

    /// Waits until an append was reported durable.
    pub fn wait_for(&self, append: usize) -> Result<(), Violation> {
        let scene = self.wait_until(|scene| scene.ledger.durable > append || scene.failure.is_some())?;
        match &scene.failure {
            Some(failure) if scene.ledger.durable <= append => Err(failure.to_string()),
            _ => Ok(()),
        }
    }

    pub fn append(&self, wanted: &[Wanted]) -> Result<(), Violation> {
        let number = self.begin_append(wanted).map_err(|error| error.to_string())?;
        self.wait_for(number)
    }

    /// Nothing is appended below it later in this life.
    pub fn truncate(&self, group: u32, before: u64) {
        let mut scene = self.scene();
        scene.ledger.truncate(group, before);
        scene.truncated.insert(group, before);
        drop(scene);
        self.log().truncate(group, before);
    }

    /// The marks are due. That nothing is damaged is known.
    pub fn pass_time(&self) {
        self.log().forget_damage();
    }

    /// Waits until nothing waits to be written, moved, deleted or prepared, or only for space, or until the world
    /// stands still. An error if the log has failed.
    pub fn settle(&self) -> Result<(), Violation> {
        let before = self.scene().settled;
        self.log().settle();
        let scene = self.wait_until(|scene| scene.settled > before || scene.life != self.life)?;
        let failure = scene.failure.clone().filter(|_| scene.life == self.life);
        let truncated = scene.truncated.clone();
        drop(scene);
        for (group, before) in truncated {
            if let Some((first, _)) = self.log().bounds(group).filter(|(first, _)| *first < before) {
                return Err(format!("entry {first} of group {group} was truncated, and it is back"));
            }
        }
        failure.map_or(Ok(()), |failure| Err(failure.to_string()))
    }

    pub fn wait_until(&self, done: impl Fn(&Scene) -> bool) -> Result<MutexGuard<'_, Scene>, Violation> {
        let pending = |scene: &mut Scene| !done(scene) && scene.violation.is_none();
        let (scene, waited) = self.stage.changed.wait_timeout_while(self.scene(), HANG, pending).expect("no panic");
        if waited.timed_out() {
            return Err("it waits for something that never happens".into());
        }
        scene.violation.clone().map_or(Ok(scene), Err)
    }

    /// From now on, or never, the world stops by itself.
    pub fn freeze(&self, freeze: Freeze) {
        self.scene().freeze = freeze;
    }

    pub fn close(&mut self) -> Result<(), Violation> {
        let Some(log) = self.log.take() else { return Err("it is not open".into()) };
        log.close().map_err(|error| error.to_string())
    }

    /// The process dies at once; nothing that was written is lost.
    pub fn kill(&mut self) {
        let mut scene = self.scene();
        scene.life += 1;
        scene.freeze = Freeze::Never;
        drop(scene);
        // All calls fail, so that its threads end.
        self.log = None;
    }

    /// The last moment: also what was reported after the last call must be there.
    pub fn end(&self) {
        self.scene().look(&Call { kind: CallKind::List, name: "the end".into() });
    }
}

fn listen(stage: &Stage, life: u64, event: &Event) {
    let mut scene = stage.scene();
    // What a process was about to say when it was killed, nobody has heard.
    if scene.life != life {
        return;
    }
    scene.ledger.durable += event.appends as usize;
    if scene.ledger.durable > scene.ledger.appends() {
        scene.violation = Some("more appends are reported durable than there were".into());
    }
    if event.appends > 0 && scene.failure.is_some() {
        scene.violation = Some("an append is reported durable after a failure".into());
    }
    scene.settled += u64::from(event.settled);
    scene.low_on_space = event.low_on_space.unwrap_or(scene.low_on_space);
    scene.was_low_on_space |= scene.low_on_space;
    if event.failure.is_some() {
        scene.failure.clone_from(&event.failure);
    }
    drop(scene);
    stage.changed.notify_all();
}

fn written(serial: usize, &Wanted { kind, group, instance, bytes }: &Wanted) -> Written {
    let text = format!("{serial}:{kind}/{group}/{instance};").into_bytes();
    let length = bytes.max(text.len());
    Written { kind, group, instance, body: text.into_iter().cycle().take(length).collect() }
}
