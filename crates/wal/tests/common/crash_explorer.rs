//! Runs a workload, lets the power fail at each of its calls, and looks at what every crash leaves.

use super::broken_files::Mistake;
use super::crash_images::{all_choices, describe, image_of, sampled_choices};
use super::crash_ledger::Violation;
use super::crash_workloads::Workload;
use super::crash_world::{LockFolder, World, WorldOptions, want_entry, want_state};
use super::random::Random;
use super::sim_disk::SimDisk;
use super::sim_files::CrashPoint;
use std::collections::BTreeSet;

#[derive(Clone, Copy)]
pub struct Plan {
    /// Images of each crash; None for all of them.
    pub images_max: Option<usize>,
    /// So many of them suffer a second crash at each call of the recovery, which has at most so many images. Then also
    /// a process that is killed there, and loses nothing, is followed by a crash at each call of the next one.
    pub second_crashes: usize,
    pub second_images_max: usize,
    /// At one of so many crash points.
    pub second_crashes_every: usize,
}

/// What was looked at.
#[derive(Default)]
pub struct Explored {
    /// Calls of the workload that change something.
    pub calls: u64,
    /// Which they were, by kind and file.
    pub called: BTreeSet<String>,
    /// Those of them after which a crash may leave something else than before.
    pub crash_points: usize,
    pub images: usize,
    /// Crashes during a recovery, and their images.
    pub second_crash_points: usize,
    pub second_images: usize,
}

/// Group of what is appended after a crash.
const AFTERWARDS: u32 = 900;
/// A close, a loss of power, a kill.
const ENDINGS: usize = 3;

struct Explorer<'a> {
    plan: Plan,
    settings: WorldOptions,
    folder: &'a LockFolder,
    random: Random,
    explored: Explored,
}

/// Runs a workload without a crash. How its threads get past each other varies with the seed, and from run to run.
pub fn run_once(workload: &Workload, seed: u64, folder: &LockFolder) -> Result<(), Violation> {
    let settings = WorldOptions { segment_bytes: workload.segment_bytes, seed, varied: true, mistake: None };
    (workload.run)(&mut World::new(SimDisk::default(), Default::default(), settings, folder))
}

pub fn explore(workload: &Workload, plan: Plan, seed: u64, mistake: Option<Mistake>) -> Result<Explored, Violation> {
    let folder = LockFolder::new();
    let segment_bytes = workload.segment_bytes;
    let afterwards = mistake.filter(|mistake| *mistake == Mistake::TornTailIsNotWiped);
    let before = if afterwards.is_none() { mistake } else { None };
    let settings = WorldOptions { segment_bytes, seed, varied: true, mistake: before };
    let mut world = World::new(SimDisk::default(), Default::default(), settings, &folder);
    world.scene().points = Some(Vec::new());
    (workload.run)(&mut world).map_err(|error| format!("{}: {error}", workload.name))?;
    world.end();
    let mut scene = world.scene();
    let points = scene.points.take().unwrap_or_default();
    let explored = Explored { calls: scene.calls, called: std::mem::take(&mut scene.called), ..Explored::default() };
    drop(scene);
    let settings = WorldOptions { varied: false, mistake: afterwards, ..settings };
    let mut explorer = Explorer { plan, settings, folder: &folder, random: Random::new(seed), explored };
    for point in &points {
        let at =
            |error| format!("{}, seed {seed}, crash at call {} ({}); {error}", workload.name, point.number, point.what);
        explorer.check_point(point).map_err(at)?;
    }
    Ok(explorer.explored)
}

impl Explorer<'_> {
    fn check_point(&mut self, point: &CrashPoint) -> Result<(), Violation> {
        self.explored.crash_points += 1;
        let twice = self.explored.crash_points.is_multiple_of(self.plan.second_crashes_every);
        let mut second_crashes = if twice { self.plan.second_crashes } else { 0 };
        if second_crashes > 0 {
            self.crash_again(point.disk.clone(), point).map_err(|error| format!("a kill, {error}"))?;
        }
        let choices = match self.plan.images_max {
            Some(images_max) => sampled_choices(&point.disk, &mut self.random, images_max),
            None => all_choices(&point.disk, &mut self.random),
        };
        for choice in choices {
            self.explored.images += 1;
            let image = image_of(&point.disk, &choice);
            let ending = self.random.below(ENDINGS);
            let mut checked = self.check_image(image.clone(), point, ending);
            if second_crashes > 0 && checked.is_ok() {
                second_crashes -= 1;
                checked = self.crash_again(image, point);
            }
            checked.map_err(|error| format!("{}: {error}", describe(&point.disk, &choice)))?;
        }
        Ok(())
    }

    /// Opens the image again, and crashes at each call until the log works on.
    fn crash_again(&mut self, disk: SimDisk, point: &CrashPoint) -> Result<(), Violation> {
        let varied = WorldOptions { varied: true, seed: self.random.next(), ..self.settings };
        let mut world = World::new(disk, point.ledger.clone(), varied, self.folder);
        world.scene().points = Some(Vec::new());
        use_once(&mut world)?;
        let points = world.scene().points.take().unwrap_or_default();
        drop(world);
        for second in &points {
            self.explored.second_crash_points += 1;
            for choice in sampled_choices(&second.disk, &mut self.random, self.plan.second_images_max) {
                self.explored.second_images += 1;
                let ending = self.random.below(ENDINGS);
                self.check_image(image_of(&second.disk, &choice), second, ending).map_err(|error| {
                    let what = describe(&second.disk, &choice);
                    format!("then at call {} ({}); {what}: {error}", second.number, second.what)
                })?;
            }
        }
        Ok(())
    }

    /// Opens what a crash left, works on, ends by a close, a kill or a loss of power, and opens it once more.
    fn check_image(&self, disk: SimDisk, point: &CrashPoint, ending: usize) -> Result<(), Violation> {
        let mut world = World::new(disk, point.ledger.clone(), self.settings, self.folder);
        use_once(&mut world)?;
        if ending == 0 {
            world.close()?
        } else {
            world.kill()
        }
        let scene = world.scene();
        let mut left = scene.disk.clone();
        if ending == 1 {
            let choices = sampled_choices(&left, &mut Random::new(0), 1);
            left = image_of(&left, &choices[0]);
        }
        let mut again = World::new(left, scene.ledger.clone(), self.settings, self.folder);
        drop(scene);
        open_sound(&mut again)?;
        let torn_bytes = again.log().recovery().torn_bytes;
        if ending == 0 && torn_bytes > 0 {
            return Err(format!("{torn_bytes} torn bytes after a clean close"));
        }
        again.close()
    }
}

fn use_once(world: &mut World) -> Result<(), Violation> {
    open_sound(world)?;
    let next = world.scene().ledger.appends() as u64;
    world.append(&[want_entry(AFTERWARDS, next, 700), want_state(AFTERWARDS, 0, 24)])?;
    world.settle()
}

/// A crash is never corruption.
fn open_sound(world: &mut World) -> Result<(), Violation> {
    world.open()?;
    let recovery = world.log().recovery();
    if !recovery.corrupt.is_empty() {
        return Err(format!("reported as corrupt: {:?}", recovery.corrupt));
    }
    if recovery.damaged_marks > 0 {
        return Err(format!("{} copies of the marks are reported as damaged", recovery.damaged_marks));
    }
    Ok(())
}
